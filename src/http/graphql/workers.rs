//! Connections of workers to the instance that answers: those that there are now, a line for each app of each.

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use callboard_actors::domain::{FunctionId, Timestamp};
use callboard_actors::workers::{Group, Status, View};

use super::apps::App;
use super::asked::asked;
use super::paging::PageInfo;
use super::scalars::{Time, Ulid, Uuid};

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
        let views = asked.state.options.gateway.workers().list();
        let rows = views
            .iter()
            .flat_map(|view| view.worker.groups.iter().map(move |group| (view, group)));
        let mut rows: Vec<(&View, &Group)> = rows.filter(|(view, group)| filter.takes(view, group)).collect();
        for order in order_by.iter().rev() {
            rows.sort_by_key(|(view, _)| order.field.of(view));
            if order.direction == ConnectV1WorkerConnectionsOrderByDirection::Desc {
                rows.reverse();
            }
        }
        let gateway = Ulid::of(asked.api.node().id);
        let total_count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        let cursors = rows
            .iter()
            .map(|(view, group)| format!("{} {}", view.worker.connection, group.app));
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
            .map(|((view, group), cursor)| ConnectV1WorkerConnectionEdge {
                node: ConnectV1WorkerConnection {
                    app: App::by_name(&asked.catalog, &group.app),
                    ..node(view, group, gateway.clone())
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
    /// When that was; no connection that is shown has ended.
    fn of(self, view: &View) -> Option<Timestamp> {
        match self {
            Self::Connected => Some(view.worker.connected_at),
            Self::LastHeartbeat => Some(view.heard_at),
            Self::Disconnected => None,
        }
    }
}

impl ConnectV1WorkerConnectionsFilter {
    fn takes(&self, view: &View, group: &Group) -> bool {
        let at = self.time_field.of(view);
        let is_in_time = self.from.as_ref().is_none_or(|from| at.is_some_and(|at| from.0 <= at))
            && self
                .until
                .as_ref()
                .is_none_or(|until| at.is_some_and(|at| at < until.0));
        let app = FunctionId::app_uuid(&group.app).to_string();
        let is_app = self.app_ids.as_ref().is_none_or(|ids| ids.iter().any(|id| id.0 == app));
        let status = ConnectV1ConnectionStatus::of(view.status);
        let is_status = self.status.as_ref().is_none_or(|all| all.contains(&status));
        is_in_time && is_app && is_status
    }
}

impl ConnectV1ConnectionStatus {
    fn of(status: Status) -> Self {
        match status {
            Status::Connected => Self::Connected,
            Status::Ready => Self::Ready,
            Status::Draining => Self::Draining,
        }
    }
}

fn node(view: &View, group: &Group, gateway_id: Ulid) -> ConnectV1WorkerConnection {
    let worker = &view.worker;
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    ConnectV1WorkerConnection {
        id: Ulid::of(&worker.connection),
        gateway_id,
        instance_id: worker.instance.to_string(),
        worker_ip: worker.address.clone(),
        max_worker_concurrency: worker.room.map_or(0, count),
        app_name: Some(group.app.to_string()),
        app_id: Some(Uuid::of(FunctionId::app_uuid(&group.app))),
        app: None,
        connected_at: Time(worker.connected_at),
        last_heartbeat_at: Some(Time(view.heard_at)),
        disconnected_at: None,
        disconnect_reason: None,
        status: ConnectV1ConnectionStatus::of(view.status),
        group_hash: group.hash.clone(),
        sdk_lang: worker.sdk_language.clone(),
        sdk_version: worker.sdk_version.clone(),
        sdk_platform: worker.platform.clone().unwrap_or_default(),
        sync_id: None,
        build_id: group.version.clone(),
        app_version: group.version.clone(),
        function_count: count(group.functions.len()),
        cpu_cores: worker.machine.cpu_cores,
        // More than 32 bits, whatever the schema calls it: JSON can say it, and so does the original.
        mem_bytes: worker.machine.memory,
        os: worker.machine.os.clone(),
    }
}
