//! AUTH: one step of enhanced authentication, 5.0 only. Methods and their data are opaque here.

use alloc::vec::Vec;

use crate::malformed::Malformed;
use crate::packet::property::{Property, PropertyWalk, UserProperties};
use crate::packet::reason_in;
use crate::protocol::{PacketType, ProtocolVersion};
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::write;

/// A step of enhanced authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// The state of the exchange.
    pub reason: ReasonCode,
    /// The properties. The method is absent only from the shortest AUTH, which means success.
    pub properties: AuthProperties<'a>,
}

impl<'a> Auth<'a> {
    /// Reads the body of an AUTH.
    ///
    /// # Errors
    /// If the reason code is not allowed in an AUTH [MQTT-3.15.2-1], there is a body without an authentication method, or
    /// a property is invalid.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        if reader.is_empty() {
            return Ok(Self { reason: ReasonCode::Success, properties: AuthProperties::default() });
        }
        let reason = reason_in(PacketType::Auth, reader.u8()?)?;
        let section = if reader.is_empty() { &[] } else { reader.section()? };
        let properties = AuthProperties::decode(PropertyWalk::of(section))?;
        reader.finish()?;
        if properties.authentication_method.is_none() {
            return Err(Malformed::AuthenticationMethodMissing);
        }
        Ok(Self { reason, properties })
    }

    /// Appends the packet. Appends nothing before 5.0, which has no AUTH.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(version.is_v5(), "there is no AUTH before 5.0");
        if !version.is_v5() {
            return;
        }
        write::packet(out, PacketType::Auth.first_byte(), 0, |out| {
            if self.reason != ReasonCode::Success || self.properties != AuthProperties::default() {
                out.push(self.reason.code());
                write::section(out, |out| self.properties.encode(out));
            }
        });
    }
}

/// The properties of an AUTH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthProperties<'a> {
    /// The method, the same as in CONNECT [MQTT-4.12.0-5].
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
    /// An explanation for people.
    pub reason_string: Option<&'a str>,
    /// The user properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> AuthProperties<'a> {
    fn decode(mut properties: PropertyWalk<'a>) -> Result<Self, Malformed> {
        let mut decoded = Self::default();
        while let Some(property) = properties.next()? {
            match property {
                Property::AuthenticationMethod(value) => {
                    properties.once(&mut decoded.authentication_method, value)?;
                }
                Property::AuthenticationData(value) => {
                    properties.once(&mut decoded.authentication_data, value)?;
                }
                Property::ReasonString(value) => properties.once(&mut decoded.reason_string, value)?,
                Property::User(..) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        decoded.user_properties = properties.user_properties();
        Ok(decoded)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.authentication_method, Property::AuthenticationMethod);
        Property::put(out, self.authentication_data, Property::AuthenticationData);
        Property::put(out, self.reason_string, Property::ReasonString);
        self.user_properties.encode(out);
    }
}
