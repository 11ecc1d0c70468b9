//! DISCONNECT, in either direction.

use alloc::vec::Vec;

use crate::malformed::Malformed;
use crate::packet::property::{Property, PropertyWalk, UserProperties};
use crate::packet::reason_in;
use crate::protocol::{PacketType, ProtocolVersion};
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::write;

/// The sender is about to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// The reason; before 5.0 always success, which means a normal disconnection.
    pub reason: ReasonCode,
    /// The properties; none before 5.0.
    pub properties: DisconnectProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// Reads the body of a DISCONNECT.
    ///
    /// # Errors
    /// If the reason code is not allowed in a DISCONNECT [MQTT-3.14.2-1], a property is invalid, or, before 5.0, the body
    /// is not empty.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let mut disconnect =
            Self { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
        // The properties may be omitted, or the reason code and the properties.
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason = reason_in(PacketType::Disconnect, reader.u8()?)?;
            if !reader.is_empty() {
                disconnect.properties =
                    DisconnectProperties::decode(PropertyWalk::follow(version, &mut reader)?)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    /// Appends the packet in the format of `version`: empty before 5.0, and always in its shortest form.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let has_properties = self.properties != DisconnectProperties::default();
        debug_assert!(
            !version.is_v5() || self.reason.is_allowed_in(PacketType::Disconnect),
            "DISCONNECT cannot carry {:?}",
            self.reason
        );
        write::packet(out, PacketType::Disconnect.first_byte(), 0, |out| {
            if version.is_v5() && (has_properties || self.reason != ReasonCode::Success) {
                out.push(self.reason.code());
                if has_properties {
                    write::section(out, |out| self.properties.encode(out));
                }
            }
        });
    }
}

/// The properties of a DISCONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties<'a> {
    /// How long the session outlives the connection, in seconds; absent: as set by CONNECT. Never sent by a server
    /// [MQTT-3.14.2-2].
    pub session_expiry_interval_s: Option<u32>,
    /// An explanation for people.
    pub reason_string: Option<&'a str>,
    /// The user properties.
    pub user_properties: UserProperties<'a>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
}

impl<'a> DisconnectProperties<'a> {
    fn decode(mut properties: PropertyWalk<'a>) -> Result<Self, Malformed> {
        let mut decoded = Self::default();
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiryInterval(value) => {
                    properties.once(&mut decoded.session_expiry_interval_s, value)?;
                }
                Property::ReasonString(value) => properties.once(&mut decoded.reason_string, value)?,
                Property::ServerReference(value) => properties.once(&mut decoded.server_reference, value)?,
                Property::User(..) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        decoded.user_properties = properties.user_properties();
        Ok(decoded)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.session_expiry_interval_s, Property::SessionExpiryInterval);
        Property::put(out, self.reason_string, Property::ReasonString);
        Property::put(out, self.server_reference, Property::ServerReference);
        self.user_properties.encode(out);
    }
}
