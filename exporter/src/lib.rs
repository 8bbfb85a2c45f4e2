//! scouter-exporter
