//! The real programs against each other: `scouter-server`, `loadgen`, and programs that use a queue of monitoring records.
//!
//! What this layer proves: what was acknowledged survives the server's death, once; faults have a clear end and harm nothing else.
//! What it does not prove: single rules of validation, the log's recovery at each byte (unit tests of `scouter-storage` do).

mod brokers;
mod faults;
mod interop;
mod kill9;
mod loadgen;
mod queue;
mod server;
mod shared_log;
mod transports;
