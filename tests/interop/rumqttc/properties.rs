//! The properties of a version 5.0 message, on their way through the broker.
//! Drives rumqttc itself: the face that the other checks use has no properties.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::time::timeout;

use crate::Scope;
use crate::harness::time::PATIENCE;

pub(crate) fn pass_through(scope: &Scope) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let got = runtime
        .block_on(async { timeout(PATIENCE, there_and_back(scope)).await })
        .expect("the message comes back in time");
    let left_s = got.message_expiry_interval.expect("the interval is passed on");
    assert!((30..=60).contains(&left_s), "{left_s} s are left of 60");
    assert_eq!(PublishProperties { message_expiry_interval: Some(60), ..got }, sent());
}

fn sent() -> PublishProperties {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(60),
        response_topic: Some("answer/here".to_owned()),
        correlation_data: Some("0815".into()),
        user_properties: vec![pair("a", "1"), pair("b", "2"), pair("a", "3")],
        content_type: Some("text/plain".to_owned()),
        ..PublishProperties::default()
    }
}

/// Publishes to itself; what the message carries when it comes.
async fn there_and_back(scope: &Scope) -> PublishProperties {
    let mut options =
        MqttOptions::new(scope.topic.as_str(), scope.broker.ip().to_string(), scope.broker.port());
    options.set_transport(scope.transport.clone());
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe(scope.topic.as_str(), QoS::AtLeastOnce).await.expect("the library takes the request");
    loop {
        match packet(&mut events).await {
            Packet::SubAck(_) => client
                .publish_with_properties(scope.topic.as_str(), QoS::AtLeastOnce, false, "x", sent())
                .await
                .expect("the library takes the request"),
            Packet::Publish(publish) => {
                assert_eq!(publish.payload, "x");
                return publish.properties.expect("the message has properties");
            }
            _ => {}
        }
    }
}

async fn packet(events: &mut EventLoop) -> Packet {
    loop {
        if let Event::Incoming(packet) = events.poll().await.expect("the connection lasts") {
            return packet;
        }
    }
}
