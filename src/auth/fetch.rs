//! Requests over HTTP to services of the operator. They follow no redirect and ask no proxy, so that a request goes nowhere but where
//! the configuration says. An answer is bounded in bytes and time.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Idle connections that are kept to one service, and how long.
const IDLE_MAX: usize = 16;
const IDLE: Duration = Duration::from_secs(30);

/// A client of HTTP with the authorities that it believes. **Lives on:** the side thread.
#[derive(Clone)]
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A request without a usable answer.
#[derive(Debug)]
pub(super) enum FetchFault {
    /// The service cannot be reached, or its certificate is not believed.
    Unreachable(hyper_util::client::legacy::Error),
    /// It answers with another status than 200, such as a redirect.
    Status(StatusCode),
    /// Its answer is too long or ends early.
    Body,
    /// It did not answer in time.
    TimeOut,
    /// The URL is none.
    Url,
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => {
                write!(f, "the service cannot be reached: {error}")?;
                let mut source = std::error::Error::source(error);
                while let Some(error) = source {
                    write!(f, ": {error}")?;
                    source = error.source();
                }
                Ok(())
            }
            Self::Status(status) => write!(f, "the service answers {status} instead of 200"),
            Self::Body => {
                write!(f, "the answer of the service ends early or has more than {ANSWER_BYTES_MAX} bytes")
            }
            Self::TimeOut => f.write_str("the service did not answer in time"),
            Self::Url => f.write_str("the URL is not valid"),
        }
    }
}

impl Fetcher {
    /// A client that believes the authorities in this file; without a file it reaches no https.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no certificate.
    pub(super) fn new(authorities: Option<&Path>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = authorities {
            let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
            for certificate in
                CertificateDer::pem_file_iter(file).map_err(|error| invalid(error.to_string()))?
            {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(invalid("the file holds no certificate in PEM".to_owned()));
            }
        }
        let provider = rustls::crypto::ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Self { client })
    }

    /// The body that `url` answers a GET with.
    ///
    /// # Errors
    /// If there is no answer 200 within `time_out`.
    pub(super) async fn get(&self, url: &str, time_out: Duration) -> Result<Bytes, FetchFault> {
        self.request(Request::get(url), Bytes::new(), time_out).await
    }

    /// The body that `url` answers a POST of JSON with.
    ///
    /// # Errors
    /// As those of [`Fetcher::get`].
    pub(super) async fn post(
        &self,
        url: &str,
        json: Zeroizing<Vec<u8>>,
        time_out: Duration,
    ) -> Result<Bytes, FetchFault> {
        let request =
            Request::builder().method(Method::POST).uri(url).header(CONTENT_TYPE, "application/json");
        // The bytes are wiped with their last reader.
        self.request(request, Bytes::from_owner(json), time_out).await
    }

    async fn request(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
        time_out: Duration,
    ) -> Result<Bytes, FetchFault> {
        let request =
            request.header(ACCEPT, "application/json").body(Full::new(body)).map_err(|_| FetchFault::Url)?;
        let answered = async {
            let answer = self.client.request(request).await.map_err(FetchFault::Unreachable)?;
            if answer.status() != StatusCode::OK {
                return Err(FetchFault::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|_| FetchFault::Body)
        };
        tokio::time::timeout(time_out, answered).await.unwrap_or(Err(FetchFault::TimeOut))
    }
}
