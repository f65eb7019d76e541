//! Keeps answers of a server back until the test has seen what it wants to see.

use std::sync::{Arc, Condvar, Mutex};

/// Closed at first.
#[derive(Clone, Default)]
pub struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    /// Whoever waits continues.
    pub fn open(&self) {
        *self.0.0.lock().expect("nobody panics with it") = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open.
    pub fn wait(&self) {
        let is_open = self.0.0.lock().expect("nobody panics with it");
        let waited = self.0.1.wait_while(is_open, |is_open| !*is_open);
        drop(waited.expect("nobody panics with it"));
    }
}
