//! Reading durable frames back.

use super::{Frame, LogError, Position};

/// Iterates over durable frames in position order; see [`super::Log::replay`]. Ends after the first error.
pub struct Replay {}

impl Iterator for Replay {
    type Item = Result<(Position, Frame), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
