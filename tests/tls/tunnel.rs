//! A tunnel: a peer of the harness connects to it without TLS, and it to the broker with TLS. It moves what comes, and reads from
//! the broker only while its peer reads from it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};
use std::thread;

use rustls::ClientConnection;

use crate::client::{Client, Shared, Trust};

type Tls = Shared<Locked>;

/// The two directions of a tunnel share the state of TLS.
struct Locked(RwLock<ClientConnection>);

impl Locked {
    fn lock(&self) -> RwLockWriteGuard<'_, ClientConnection> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a tunnel to the broker at `target`. Returns its address. It serves until the process ends.
pub(crate) fn open(target: SocketAddr, trust: Trust) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for plain in listener.incoming() {
            let (plain, trust) = (plain.expect("the tunnel accepts"), trust.clone());
            thread::spawn(move || serve(&plain, target, &trust));
        }
    });
    address
}

fn serve(plain: &TcpStream, target: SocketAddr, trust: &Trust) {
    let mut client = Client::open(target, trust, "localhost");
    client.shake_hands(b"").expect("the broker's certificate is good");
    let Client { socket, tls } = client;
    socket.set_read_timeout(None).expect("it has this option");
    socket.set_write_timeout(None).expect("it has this option");
    plain.set_nodelay(true).expect("a TCP socket has this option");
    let tls = Tls::new(Locked(RwLock::new(tls)));
    thread::scope(|scope| {
        scope.spawn(|| to_broker(plain, &socket, &tls));
        from_broker(&socket, plain, &tls);
    });
}

fn to_broker(mut plain: &TcpStream, mut socket: &TcpStream, tls: &Locked) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = plain.read(&mut buffer).unwrap_or(0);
        let mut flight = Vec::new();
        let mut rest = &buffer[..length];
        {
            let mut tls = tls.lock();
            if rest.is_empty() {
                tls.send_close_notify();
            }
            while !rest.is_empty() || tls.wants_write() {
                let taken = tls.writer().write(rest).expect("the handshake is over");
                rest = &rest[taken..];
                tls.write_tls(&mut flight).expect("a vector takes everything");
            }
        }
        if socket.write_all(&flight).is_err() || length == 0 {
            let _ = socket.shutdown(Shutdown::Write);
            return;
        }
    }
}

fn from_broker(mut socket: &TcpStream, mut plain: &TcpStream, tls: &Locked) {
    let (mut buffer, mut said) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let length = socket.read(&mut buffer).unwrap_or(0);
        let mut came = &buffer[..length];
        said.clear();
        while !came.is_empty() {
            let mut tls = tls.lock();
            tls.read_tls(&mut came).expect("a slice can be read");
            tls.process_new_packets().expect("the broker keeps to the rules");
            // An error says that there is no more for now.
            let _ = tls.reader().read_to_end(&mut said);
        }
        if plain.write_all(&said).is_err() || length == 0 {
            let _ = plain.shutdown(Shutdown::Both);
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
    }
}
