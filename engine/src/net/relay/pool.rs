//! Buffers for the few connections that need one at a time.

/// Spare buffers. A connection takes one when a frame comes in parts or its socket is full, and gives it back at once when not.
#[derive(Default)]
pub(super) struct Pool {
    spare: Vec<Vec<u8>>,
}

impl Pool {
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= KEPT_BYTES_MAX && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// Buffers kept for later.
const SPARE_MAX: usize = 256;
/// Longer ones go back to the system.
const KEPT_BYTES_MAX: usize = 2048;
