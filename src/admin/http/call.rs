//! A call of the API: its path, its query and its body, taken apart.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::admin::operator::Request;
use crate::observe::packet_trace::TraceTarget;

/// The parts of a call that a request is made of.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The part of the path that stands for `{id}`.
    pub(super) id: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Map<String, Value>,
}

impl Call {
    /// The identifier in the path.
    pub(super) fn id(&self) -> String {
        self.id.clone()
    }

    /// A parameter, if it is given and not empty.
    pub(super) fn option(&self, name: &str) -> Option<String> {
        self.query.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A parameter that must be given.
    ///
    /// # Errors
    /// A sentence, if it is not.
    pub(super) fn parameter(&self, name: &str) -> Result<String, String> {
        self.option(name).ok_or_else(|| format!("the parameter {name} is missing"))
    }

    /// The place where a list goes on, as the last page told it; that of the beginning otherwise.
    ///
    /// # Errors
    /// A sentence, if it is no such place.
    pub(super) fn next<T: DeserializeOwned + Default>(&self) -> Result<T, String> {
        let Some(text) = self.option("next") else { return Ok(T::default()) };
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string());
        json.and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string()))
            .map_err(|_| "the parameter next is not what the page before said".to_owned())
    }

    /// The request for packets without their payloads.
    ///
    /// # Errors
    /// A sentence, if a parameter is not what it has to be.
    pub(super) fn trace(&self, target: TraceTarget) -> Result<Request, String> {
        let shard = self.option("shard").map_or(Ok(0), |text| text.parse());
        let shard = shard.map_err(|_| "the parameter shard is no number of a shard".to_owned())?;
        Ok(Request::Trace { shard, target, payload_bytes_max: 0, from: self.next()? })
    }

    /// A field of the body.
    ///
    /// # Errors
    /// A sentence, if it has another type.
    pub(super) fn field<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| format!("the field {name} is not as it has to be: {error}")),
        }
    }
}

/// The text of the place where a list goes on.
pub(super) fn place(next: &Value) -> Value {
    if next.is_null() { Value::Null } else { URL_SAFE_NO_PAD.encode(next.to_string()).into() }
}

/// The parameters of a query.
pub(super) fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " "))))
        .collect()
}

/// A text without percent signs. Bytes that are no UTF-8 become U+FFFD.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let digits = digit(0).zip(digit(1)).filter(|_| byte == b'%');
        let of_digits = digits.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(of_digits.unwrap_or(byte));
        rest = if of_digits.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_whatever_they_are() {
        for (text, expected) in [
            ("a%2Fb", "a/b"),
            ("%E4%BD%A0", "你"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("%ff", "\u{FFFD}"),
            ("%+1", "%+1"),
        ] {
            assert_eq!(decoded(text), expected, "{text}");
        }
        let expected = [("a".to_owned(), "x y".to_owned()), ("b".to_owned(), String::new())];
        assert_eq!(query("a=x+y&&b"), BTreeMap::from(expected));
    }

    #[test]
    fn a_list_goes_on_where_the_page_before_said() {
        let next = place(&serde_json::json!([1, 256]));
        let call = Call {
            query: BTreeMap::from([("next".to_owned(), next.as_str().unwrap().to_owned())]),
            ..Call::default()
        };
        assert_eq!(call.next::<(u16, u32)>(), Ok((1, 256)));
        assert!(call.next::<(u16, Option<String>)>().is_err());
        assert_eq!(Call::default().next::<(u16, u32)>(), Ok((0, 0)));
        assert_eq!(place(&Value::Null), Value::Null);
    }
}
