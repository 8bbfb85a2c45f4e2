//! The fault matrix: every fault, whatever is asked of the exporter, and whichever way it is run. It must return in time, panic nowhere,
//! and account for the span. The faults need no network beyond this machine.
#![allow(clippy::unwrap_used)]

#[path = "faults/chaos.rs"]
mod chaos;
#[path = "faults/doors.rs"]
mod doors;
#[path = "faults/matrix.rs"]
mod matrix;
#[path = "faults/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "exporter/server.rs"]
mod server;
#[path = "faults/ways.rs"]
mod ways;
