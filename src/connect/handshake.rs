//! What a worker says first, and how a connection that can't be is refused. Pure: the time is an argument.
//!
//! Promises: what comes out as an [`Introduction`] names a worker with at least one app, all of whose functions can be
//! registered; everything else is a [`Refusal`] with the protocol's code.

use std::collections::HashSet;
use std::sync::Arc;

use callboard_actors::domain::{Registration, Timestamp};
use callboard_actors::workers::{Group, Machine, Worker};
use prost::Message as _;
use serde_json::{Value, json};
use ulid::Ulid;
use url::form_urlencoded;

use super::wire::{AppConfiguration, ConnectMessage, Kind, SystemError, WorkerConnectRequestData};
use super::{APPS, Tokens};
use crate::sdk;

/// What WebSocket closes a connection with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// 1001.
    Away,
    /// 1002.
    Protocol,
    /// 1007.
    Invalid,
    /// 1008.
    Policy,
    /// 1009.
    TooLarge,
    /// 1011.
    Internal,
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    /// The protocol's word for it.
    pub(super) reason: &'static str,
    /// What is sent before the end: why an app could not be registered.
    pub(super) sync_failed: Option<SystemError>,
}

impl Refusal {
    pub(super) const fn policy(reason: &'static str) -> Self {
        Self::new(Code::Policy, reason)
    }

    pub(super) const fn new(code: Code, reason: &'static str) -> Self {
        Self {
            code,
            reason,
            sync_failed: None,
        }
    }

    /// An app could not be registered.
    pub(super) fn sync_failed(reason: &'static str, message: String) -> Self {
        Self {
            sync_failed: Some(SystemError {
                code: reason.to_owned(),
                message,
            }),
            ..Self::policy(reason)
        }
    }

    /// Nothing that the worker could do anything about.
    pub(super) const INTERNAL: Self = Self::new(Code::Internal, "connect_internal_error");
    /// The server is going down.
    pub(super) const CLOSING: Self = Self::new(Code::Away, "connect_gateway_closing");
    /// Nothing was said.
    pub(super) const TIMEOUT: Self = Self::policy("connect_worker_hello_timeout");
    const NOT_CONNECT: Self = Self::policy("connect_worker_hello_invalid_msg");
    const PAYLOAD: Self = Self::policy("connect_worker_hello_invalid_payload");
    const TOKEN: Self = Self::policy("connect_authentication_failed");
    const TOO_MANY_APPS: Self = Self::policy("connect_too_many_apps_per_connection");
    const FUNCTIONS: Self = Self::policy("connect_invalid_function_config");
}

/// A worker that has said who it is.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) worker: Worker,
    /// Its apps, in the order of the worker's groups.
    pub(super) registrations: Vec<Registration>,
    /// Whether it says by itself when it is ready.
    pub(super) says_when_ready: bool,
}

/// Reads the first message. `address` is where the worker connects from.
///
/// # Errors
/// When the connection can't be.
pub(super) fn introduce(
    message: &ConnectMessage,
    tokens: &Tokens,
    address: String,
    now: Timestamp,
) -> Result<Introduction, Refusal> {
    if message.kind != i32::from(Kind::WorkerConnect) {
        return Err(Refusal::NOT_CONNECT);
    }
    let data = WorkerConnectRequestData::decode(message.payload.clone()).map_err(|_| Refusal::PAYLOAD)?;
    let is_whole =
        Ulid::from_string(&data.connection_id).is_ok() && !data.instance_id.is_empty() && !data.apps.is_empty();
    if !is_whole {
        return Err(Refusal::PAYLOAD);
    }
    let token = data.auth_data.as_ref().map_or("", |data| data.session_token.as_str());
    if !tokens.accepts(token, now) {
        return Err(Refusal::TOKEN);
    }
    if data.apps.len() > APPS {
        return Err(Refusal::TOO_MANY_APPS);
    }
    let registrations: Result<Vec<Registration>, Refusal> =
        data.apps.iter().map(|app| registration(&data, app, now)).collect();
    let registrations = registrations?;
    let groups = registrations.iter().map(group).collect();
    let machine = data.system_attributes.unwrap_or_default();
    // Zero and less stand for no limit.
    let room = data.max_worker_concurrency.and_then(|most| usize::try_from(most).ok());
    Ok(Introduction {
        worker: Worker {
            connection: data.connection_id,
            instance: Arc::from(data.instance_id),
            room: room.filter(|most| *most > 0),
            groups,
            sdk_language: data.sdk_language,
            sdk_version: data.sdk_version,
            platform: data.platform.filter(|platform| !platform.is_empty()),
            machine: Machine {
                cpu_cores: machine.cpu_cores,
                memory: machine.mem_bytes,
                os: machine.os,
            },
            address,
            connected_at: now,
        },
        registrations,
        says_when_ready: data.worker_manual_readiness_ack,
    })
}

/// An app as it would have registered by HTTP.
fn registration(
    data: &WorkerConnectRequestData,
    app: &AppConfiguration,
    now: Timestamp,
) -> Result<Registration, Refusal> {
    let functions: Value = serde_json::from_slice(&app.functions).map_err(|_| Refusal::FUNCTIONS)?;
    if !functions.is_array() {
        return Err(Refusal::FUNCTIONS);
    }
    let name: String = form_urlencoded::byte_serialize(app.app_name.as_bytes()).collect();
    let body = json!({
        "v": "1",
        "deployType": "connect",
        // A URL of its own for each app.
        "url": format!("ws://connect?app_name={name}"),
        "sdk": format!("{}:{}", data.sdk_language, data.sdk_version),
        "framework": Some(data.framework.as_str()).filter(|framework| !framework.is_empty()),
        "appName": app.app_name,
        "appVersion": app.app_version,
        "functions": functions,
    });
    sdk::parse(body.to_string().as_bytes(), now)
        .map_err(|error| Refusal::sync_failed(error.code().unwrap_or("config_invalid"), error.to_string()))
        .and_then(only_connected)
}

/// A function that asks to be called elsewhere would not be called over this connection.
fn only_connected(registration: Registration) -> Result<Registration, Refusal> {
    if registration
        .functions
        .iter()
        .all(callboard_actors::domain::Function::is_connected)
    {
        Ok(registration)
    } else {
        Err(Refusal::FUNCTIONS)
    }
}

fn group(registration: &Registration) -> Group {
    let functions: HashSet<Arc<str>> = registration
        .functions
        .iter()
        .map(|function| Arc::clone(&function.slug))
        .collect();
    Group {
        app: Arc::clone(&registration.app.name),
        version: registration.app.version.clone(),
        // Covers the SDK, the functions and the version.
        hash: registration.app.checksum.clone(),
        functions,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::wire::AuthData;
    use super::*;

    pub(in crate::connect) const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    pub(in crate::connect) fn functions(slugs: &[&str]) -> Bytes {
        let functions: Vec<Value> = slugs
            .iter()
            .map(|slug| {
                json!({
                    "id": slug, "name": slug, "triggers": [{"event": "test/it"}],
                    "steps": {"step": {"id": "step", "name": "step", "runtime":
                        {"type": "ws", "url": format!("wss://connect?fnId={slug}&stepId=step")}}},
                })
            })
            .collect();
        serde_json::to_vec(&functions).expect("JSON").into()
    }

    pub(in crate::connect) fn data(tokens: &Tokens) -> WorkerConnectRequestData {
        WorkerConnectRequestData {
            connection_id: "01JZ0000000000000000000009".to_owned(),
            instance_id: "host-1".to_owned(),
            auth_data: Some(AuthData {
                session_token: tokens.issue("01JZ0000000000000000000009", NOW),
                sync_token: String::new(),
            }),
            apps: vec![AppConfiguration {
                app_name: "shop".to_owned(),
                app_version: Some("7".to_owned()),
                functions: functions(&["shop-charge", "shop-ship"]),
            }],
            worker_manual_readiness_ack: true,
            sdk_language: "typescript".to_owned(),
            sdk_version: "v4.24.0".to_owned(),
            ..WorkerConnectRequestData::default()
        }
    }

    fn said(data: &WorkerConnectRequestData) -> Result<Introduction, Refusal> {
        let message = ConnectMessage::of(Kind::WorkerConnect, data);
        introduce(&message, &Tokens::new(None), "127.0.0.1".to_owned(), NOW)
    }

    #[test]
    fn a_worker_is_registered_with_all_its_apps() {
        let mut data = data(&Tokens::new(None));
        data.max_worker_concurrency = Some(3);
        data.apps.push(AppConfiguration {
            app_name: "till & co".to_owned(),
            app_version: None,
            functions: functions(&[]),
        });
        let introduction = said(&data).expect("it is fine");
        assert_eq!(introduction.worker.room, Some(3));
        assert!(introduction.says_when_ready);
        let [shop, till] = introduction.worker.groups.as_slice() else {
            panic!("two apps");
        };
        assert!(shop.functions.contains("shop-charge") && shop.functions.contains("shop-ship"));
        assert_eq!((shop.version.as_deref(), till.functions.len()), (Some("7"), 0));
        let [shop, till] = introduction.registrations.as_slice() else {
            panic!("two apps");
        };
        assert_eq!((&*shop.app.sdk, shop.functions.len()), ("typescript:v4.24.0", 2));
        assert!(
            shop.functions
                .iter()
                .all(callboard_actors::domain::Function::is_connected)
        );
        assert_ne!(shop.app.url, till.app.url);
    }

    #[test]
    fn a_group_is_the_same_wherever_and_whenever_its_workers_connect() {
        let tokens = Tokens::new(None);
        let hash = |data: &WorkerConnectRequestData| said(data).expect("fine").worker.groups[0].hash.clone();
        let one = data(&tokens);
        let other = WorkerConnectRequestData {
            connection_id: "01JZ000000000000000000000A".to_owned(),
            instance_id: "host-2".to_owned(),
            ..data(&tokens)
        };
        assert_eq!(hash(&one), hash(&other));
        let mut newer = data(&tokens);
        newer.apps[0].app_version = Some("8".to_owned());
        assert_ne!(hash(&one), hash(&newer));
    }

    type Change = fn(&mut WorkerConnectRequestData);

    #[rstest]
    #[case::no_ulid(|data: &mut WorkerConnectRequestData| data.connection_id = "x".to_owned(), "connect_worker_hello_invalid_payload")]
    #[case::no_instance(|data: &mut WorkerConnectRequestData| data.instance_id.clear(), "connect_worker_hello_invalid_payload")]
    #[case::no_apps(|data: &mut WorkerConnectRequestData| data.apps.clear(), "connect_worker_hello_invalid_payload")]
    #[case::no_token(|data: &mut WorkerConnectRequestData| data.auth_data = None, "connect_authentication_failed")]
    #[case::many_apps(|data: &mut WorkerConnectRequestData| data.apps = vec![data.apps[0].clone(); 101], "connect_too_many_apps_per_connection")]
    #[case::no_json(|data: &mut WorkerConnectRequestData| data.apps[0].functions = Bytes::from_static(b"{"), "connect_invalid_function_config")]
    #[case::no_list(|data: &mut WorkerConnectRequestData| data.apps[0].functions = Bytes::from_static(b"{}"), "connect_invalid_function_config")]
    fn what_can_not_be_is_refused(#[case] change: Change, #[case] reason: &str) {
        let mut data = data(&Tokens::new(None));
        change(&mut data);
        let refusal = said(&data).expect_err("it is refused");
        assert_eq!((refusal.code, refusal.reason), (Code::Policy, reason));
        assert_eq!(refusal.sync_failed, None);
    }

    #[test]
    fn a_function_that_can_not_be_registered_is_told_before_the_end() {
        let mut data = data(&Tokens::new(None));
        data.apps[0].functions = Bytes::from_static(br#"[{"id": "a", "name": "a"}]"#);
        let refusal = said(&data).expect_err("it is refused");
        let told = refusal.sync_failed.expect("a reason");
        assert_eq!((refusal.reason, &*told.code), ("config_invalid", "config_invalid"));
        assert!(told.message.contains("Functions must contain one step"), "{told:?}");
    }

    #[test]
    fn anything_else_first_is_refused() {
        for kind in (0..=20).filter(|kind| *kind != i32::from(Kind::WorkerConnect)) {
            let message = ConnectMessage {
                kind,
                payload: Bytes::new(),
            };
            let refusal = introduce(&message, &Tokens::new(None), String::new(), NOW).expect_err("refused");
            assert_eq!(refusal.reason, "connect_worker_hello_invalid_msg");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_and_none_hurt(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let message = ConnectMessage { kind: 1, payload: payload.into() };
            prop_assert!(introduce(&message, &Tokens::new(None), String::new(), NOW).is_err());
        }

        #[test]
        fn a_damaged_introduction_never_hurts(place in 0..600_usize, with in any::<u8>(), cut in any::<bool>()) {
            let mut payload = data(&Tokens::new(None)).encode_to_vec();
            let place = place % payload.len();
            if cut {
                payload.truncate(place);
            } else {
                payload[place] = with;
            }
            let message = ConnectMessage { kind: 1, payload: payload.into() };
            let _ = introduce(&message, &Tokens::new(None), String::new(), NOW);
        }
    }
}
