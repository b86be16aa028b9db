//! End-to-end tests: the built binary, real SDK apps, and fake apps for what no SDK produces.
//!
//! Promises: every server listens on a free loopback port and has a private data directory; every wait has a deadline and
//! ends on a signal or an API's answer; a test that fails prints the supervisor's snapshot and the end of the log.
//! Never: a sleep for luck, a retry, a test that is skipped. An SDK that is not installed fails its tests with the name
//! of the script that installs it.

mod api;
mod apps;
mod bad_input;
mod cancelling;
mod chaos;
mod checkpoints;
mod cli;
mod cluster;
mod connect;
mod containers;
mod crons;
mod dead_letters;
mod deferrals;
mod documents;
mod endpoints;
mod events;
mod failures;
mod fakes;
mod fuzzing;
mod gatherings;
mod graphql;
mod invokes;
mod keys;
mod limits;
mod notes;
mod observing;
mod openapi;
mod operations;
mod outages;
mod pausing;
mod payloads;
mod production;
mod realtime;
mod rerunning;
mod rest;
mod restarts;
mod run_slots;
mod signing;
mod starts;
mod steps;
mod support;
mod traces;
mod waits;
