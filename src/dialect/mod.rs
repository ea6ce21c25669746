//! What nodes speak among themselves: bytes in, values out; no socket, no clock.

pub mod ergo;
