//! Connections of workers.

use super::fixtures::*;
use crate::domain::{ConnectedApp, Connection, ConnectionStatus, RunId};

fn connection(millis: i64) -> Connection {
    Connection {
        id: RunId::new(at(millis), 7).to_string(),
        node: "node".to_owned(),
        instance: format!("host \u{0} of {millis}"),
        status: ConnectionStatus::Ready,
        apps: vec![ConnectedApp {
            name: "shop".to_owned(),
            version: Some("7".to_owned()),
            group: "hash".to_owned(),
            functions: 3,
        }],
        room: Some(5),
        in_hand: 2,
        sdk_language: "typescript".to_owned(),
        sdk_version: "v4".to_owned(),
        platform: None,
        os: "linux".to_owned(),
        cpu_cores: 2,
        memory: 1 << 34,
        address: "::1".to_owned(),
        connected_at: at(millis),
        heard_at: at(millis + 5),
        ended_at: None,
        end_reason: None,
    }
}

/// Connections come back as they were written last, those that last first.
pub async fn connections_are_kept_as_they_are(store: Shared) {
    assert_eq!(store.connections(10).await.expect("answers"), []);
    store.put_connections(&[]).await.expect("writes");
    let (old, new) = (connection(1), connection(2));
    let ended = connection(3).ended(at(9), "WORKER_SHUTDOWN");
    let before = connection(3);
    let all = [old.clone(), before, new.clone(), ended.clone()];
    store.put_connections(&all).await.expect("writes");
    let paused = Connection {
        status: ConnectionStatus::Draining,
        heard_at: at(50),
        ..old
    };
    store
        .put_connections(std::slice::from_ref(&paused))
        .await
        .expect("writes");
    let expected = [new, paused.clone(), ended];
    assert_eq!(store.connections(10).await.expect("answers"), expected);
    assert_eq!(store.connections(1).await.expect("answers"), expected[..1]);
    store.forget_connections(at(50)).await.expect("writes");
    assert_eq!(store.connections(10).await.expect("answers"), [paused]);
}
