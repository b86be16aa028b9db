//! What is to be written down of connections, for people: those that there are, and how others have ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::roster::Connected;
use super::worker::{SocketId, Status};
use super::{State, Workers};
use crate::domain::{ConnectedApp, Connection, ConnectionStatus, Timestamp};

/// Ends of connections that wait to be written down, at the most.
const ENDED: usize = 10_000;

impl Workers {
    /// Rung when a connection has begun or ended, or its status has changed.
    #[must_use]
    pub fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.0.changed)
    }

    /// Says why a connection is about to [leave](Self::leave); otherwise nobody knows.
    pub fn note_end(&self, socket: SocketId, reason: &'static str) {
        self.lock().roster.note_end(socket, reason);
    }

    /// The connections to this instance, which is called `node`, the oldest first.
    #[must_use]
    pub fn connections(&self, node: &str) -> Vec<Connection> {
        let state = self.lock();
        let all = state.roster.all();
        all.map(|(socket, connected)| shown(&state, socket, connected, node))
            .collect()
    }

    /// What has changed since the last time: connections that are new, have another status, were heard of at least `lag` after
    /// what was told of them, or have ended.
    #[must_use]
    pub fn take_changes(&self, node: &str, lag: Duration) -> Vec<Connection> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut told = Vec::new();
        for (socket, connected) in state.roster.all_mut() {
            let now = (connected.status, connected.heard_at);
            let is_old = |(status, heard): (Status, Timestamp)| status == now.0 && now.1.since(heard) < lag;
            if !connected.told.is_some_and(is_old) {
                connected.told = Some(now);
                told.push(socket);
            }
        }
        let mut changes = std::mem::take(&mut state.ended);
        for change in &mut changes {
            node.clone_into(&mut change.node);
        }
        let all = state.roster.all().filter(|(socket, _)| told.contains(socket));
        changes.extend(all.map(|(socket, connected)| shown(state, socket, connected, node)));
        changes
    }
}

impl State {
    /// A connection has ended.
    pub(super) fn note_left(&mut self, socket: SocketId, connected: &Connected, at: Timestamp) {
        let reason = connected.end_reason.unwrap_or(Connection::UNEXPECTED);
        let ended = shown(self, socket, connected, "").ended(at, reason);
        if self.ended.len() < ENDED {
            self.ended.push(ended);
        }
    }
}

fn shown(state: &State, socket: SocketId, connected: &Connected, node: &str) -> Connection {
    let worker = &connected.worker;
    let apps = worker.groups.iter().map(|group| ConnectedApp {
        name: group.app.to_string(),
        version: group.version.clone(),
        group: group.hash.clone(),
        functions: group.functions.len(),
    });
    Connection {
        id: worker.connection.clone(),
        node: node.to_owned(),
        instance: worker.instance.to_string(),
        status: match connected.status {
            Status::Connected => ConnectionStatus::Connected,
            Status::Ready => ConnectionStatus::Ready,
            Status::Draining => ConnectionStatus::Draining,
        },
        apps: apps.collect(),
        room: worker.room,
        in_hand: state.requests.of_socket(socket),
        sdk_language: worker.sdk_language.clone(),
        sdk_version: worker.sdk_version.clone(),
        platform: worker.platform.clone(),
        os: worker.machine.os.clone(),
        cpu_cores: worker.machine.cpu_cores,
        memory: worker.machine.memory,
        address: worker.address.clone(),
        connected_at: worker.connected_at,
        heard_at: connected.heard_at,
        ended_at: None,
        end_reason: None,
    }
}
