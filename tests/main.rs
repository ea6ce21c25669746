//! The tests that run the real binary; one behaviour for each file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that panics has failed, and says where; its clock is the wall's"
)]
#![allow(unreachable_pub, reason = "the modules of one test binary are public to one another")]

mod support;

mod admin;
mod check;
mod churn;
mod clients;
mod compare;
mod connect;
#[cfg(feature = "etcd")]
mod crowd;
mod demo;
mod discovery;
mod dns;
mod docs;
mod drain;
mod edits;
mod epmd;
mod ergo;
#[cfg(feature = "etcd")]
mod etcd;
mod explain;
mod failover;
mod failover_eject;
mod failover_name;
mod failover_race;
mod flood;
mod forged;
mod forward;
mod handoff;
mod kill;
mod leases;
mod limits;
mod log;
mod lookup;
mod openapi;
mod outage;
mod pattern;
mod refused;
mod registrar;
mod relay;
mod relays;
mod reload;
mod renewal;
mod request;
mod resolvers;
mod route_keys;
mod service;
#[cfg(feature = "etcd")]
mod shared;
mod start;
mod tls;
mod upstreams;
mod users;
mod watch;
