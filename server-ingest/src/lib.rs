//! scouter-ingest
