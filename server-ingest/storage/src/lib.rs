//! From the bytes a client sent to rows in open table files. No query engine is linked here.
//!
//! Reading order is the order of a request: [`otlp`] judges its bytes, [`log`] makes them durable, [`columns`] walks them
//! into Arrow, [`lake`] writes Parquet files and Delta commits, [`store`] ties these together and gives readers one
//! consistent cut of stored and recent rows. [`scheduling`] says which threads go first.

// The checks that the fuzz target, the tests of the crate and the tests beside it share say `scouter_storage`.
#[cfg(test)]
extern crate self as scouter_storage;

pub mod otlp;

pub mod log;

pub mod columns;

pub mod lake;

pub mod store;

pub mod scheduling;
