//! Connections of workers to all instances, those that have ended included, a line for each app of each.

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use callboard_actors::domain::{ConnectedApp, Connection, ConnectionStatus, FunctionId, Timestamp};

use super::apps::App;
use super::asked::{asked, failed};
use super::paging::PageInfo;
use super::scalars::{Time, Ulid, Uuid};
use crate::http::connections;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum ConnectV1ConnectionStatus {
    Connected,
    Ready,
    Draining,
    Disconnecting,
    Disconnected,
}

/// A connection of a worker.
#[derive(Debug, SimpleObject)]
struct ConnectV1WorkerConnection {
    id: Ulid,
    gateway_id: Ulid,
    instance_id: String,
    worker_ip: String,
    max_worker_concurrency: i32,
    app_name: Option<String>,
    #[graphql(name = "appID")]
    app_id: Option<Uuid>,
    app: Option<App>,
    connected_at: Time,
    last_heartbeat_at: Option<Time>,
    disconnected_at: Option<Time>,
    disconnect_reason: Option<String>,
    status: ConnectV1ConnectionStatus,
    group_hash: String,
    sdk_lang: String,
    sdk_version: String,
    sdk_platform: String,
    sync_id: Option<Uuid>,
    build_id: Option<String>,
    app_version: Option<String>,
    function_count: i32,
    cpu_cores: i32,
    mem_bytes: i64,
    os: String,
}

#[derive(Debug, SimpleObject)]
struct ConnectV1WorkerConnectionEdge {
    node: ConnectV1WorkerConnection,
    cursor: String,
}

/// A list of connections.
#[derive(Debug, SimpleObject)]
pub(super) struct ConnectV1WorkerConnectionsConnection {
    edges: Vec<ConnectV1WorkerConnectionEdge>,
    page_info: PageInfo,
    total_count: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum ConnectV1WorkerConnectionsOrderByField {
    #[graphql(name = "CONNECTED_AT")]
    Connected,
    #[graphql(name = "LAST_HEARTBEAT_AT")]
    LastHeartbeat,
    #[graphql(name = "DISCONNECTED_AT")]
    Disconnected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum ConnectV1WorkerConnectionsOrderByDirection {
    Asc,
    Desc,
}

#[derive(Debug, InputObject)]
pub(super) struct ConnectV1WorkerConnectionsOrderBy {
    field: ConnectV1WorkerConnectionsOrderByField,
    direction: ConnectV1WorkerConnectionsOrderByDirection,
}

#[derive(Debug, InputObject)]
pub(super) struct ConnectV1WorkerConnectionsFilter {
    from: Option<Time>,
    until: Option<Time>,
    #[graphql(default_with = "ConnectV1WorkerConnectionsOrderByField::Connected")]
    time_field: ConnectV1WorkerConnectionsOrderByField,
    status: Option<Vec<ConnectV1ConnectionStatus>>,
    #[graphql(name = "appIDs")]
    app_ids: Option<Vec<Uuid>>,
}

/// The questions about workers.
#[derive(Debug, Default)]
pub(super) struct Query;

/// Connections in one answer, at the most.
const MOST: usize = 400;

#[Object(name = "QueryOfWorkers")]
impl Query {
    /// Connections of workers.
    async fn worker_connections(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 100)] first: i32,
        after: Option<String>,
        order_by: Vec<ConnectV1WorkerConnectionsOrderBy>,
        filter: ConnectV1WorkerConnectionsFilter,
    ) -> Result<ConnectV1WorkerConnectionsConnection> {
        let asked = asked(ctx);
        let all = connections::all(&asked.state, &*asked.api).await.map_err(failed)?;
        let rows = all.iter().flat_map(|one| one.apps.iter().map(move |app| (one, app)));
        let mut rows: Vec<(&Connection, &ConnectedApp)> = rows.filter(|(one, app)| filter.takes(one, app)).collect();
        for order in order_by.iter().rev() {
            rows.sort_by_key(|(one, _)| order.field.of(one));
            if order.direction == ConnectV1WorkerConnectionsOrderByDirection::Desc {
                rows.reverse();
            }
        }
        let total_count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        let cursors = rows.iter().map(|(one, app)| format!("{} {}", one.id, app.name));
        let start = match &after {
            Some(after) => cursors
                .clone()
                .position(|cursor| cursor == *after)
                .map_or(0, |place| place + 1),
            None => 0,
        };
        let size = usize::try_from(first).unwrap_or(0).clamp(1, MOST);
        let page = rows.iter().zip(cursors).skip(start).take(size);
        let edges: Vec<_> = page
            .map(|((one, app), cursor)| ConnectV1WorkerConnectionEdge {
                node: ConnectV1WorkerConnection {
                    app: App::by_name(&asked.catalog, &app.name),
                    ..node(one, app)
                },
                cursor,
            })
            .collect();
        let shown: Vec<String> = edges.iter().map(|edge| edge.cursor.clone()).collect();
        let has_more = rows.len() > start + edges.len();
        Ok(ConnectV1WorkerConnectionsConnection {
            page_info: PageInfo::of(&shown, has_more, start > 0),
            edges,
            total_count,
        })
    }
}

impl ConnectV1WorkerConnectionsOrderByField {
    fn of(self, connection: &Connection) -> Option<Timestamp> {
        match self {
            Self::Connected => Some(connection.connected_at),
            Self::LastHeartbeat => Some(connection.heard_at),
            Self::Disconnected => connection.ended_at,
        }
    }
}

impl ConnectV1WorkerConnectionsFilter {
    fn takes(&self, connection: &Connection, app: &ConnectedApp) -> bool {
        let at = self.time_field.of(connection);
        let is_in_time = self.from.as_ref().is_none_or(|from| at.is_some_and(|at| from.0 <= at))
            && self
                .until
                .as_ref()
                .is_none_or(|until| at.is_some_and(|at| at < until.0));
        let app = FunctionId::app_uuid(&app.name).to_string();
        let is_app = self.app_ids.as_ref().is_none_or(|ids| ids.iter().any(|id| id.0 == app));
        let status = ConnectV1ConnectionStatus::of(connection.status);
        let is_status = self.status.as_ref().is_none_or(|all| all.contains(&status));
        is_in_time && is_app && is_status
    }
}

impl ConnectV1ConnectionStatus {
    fn of(status: ConnectionStatus) -> Self {
        match status {
            ConnectionStatus::Connected => Self::Connected,
            ConnectionStatus::Ready => Self::Ready,
            ConnectionStatus::Draining => Self::Draining,
            ConnectionStatus::Disconnected => Self::Disconnected,
        }
    }
}

fn node(connection: &Connection, app: &ConnectedApp) -> ConnectV1WorkerConnection {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    ConnectV1WorkerConnection {
        id: Ulid::of(&connection.id),
        gateway_id: Ulid::of(&connection.node),
        instance_id: connection.instance.clone(),
        worker_ip: connection.address.clone(),
        max_worker_concurrency: connection.room.map_or(0, count),
        app_name: Some(app.name.clone()),
        app_id: Some(Uuid::of(FunctionId::app_uuid(&app.name))),
        app: None,
        connected_at: Time(connection.connected_at),
        last_heartbeat_at: Some(Time(connection.heard_at)),
        disconnected_at: connection.ended_at.map(Time),
        disconnect_reason: connection.end_reason.clone(),
        status: ConnectV1ConnectionStatus::of(connection.status),
        group_hash: app.group.clone(),
        sdk_lang: connection.sdk_language.clone(),
        sdk_version: connection.sdk_version.clone(),
        sdk_platform: connection.platform.clone().unwrap_or_default(),
        sync_id: None,
        build_id: app.version.clone(),
        app_version: app.version.clone(),
        function_count: count(app.functions),
        cpu_cores: connection.cpu_cores,
        // More than 32 bits, whatever the schema calls it: JSON can say it, and so does the original.
        mem_bytes: connection.memory,
        os: connection.os.clone(),
    }
}
