//! Readiness of the program: it is ready while no blocker exists.

use std::sync::{Arc, Mutex, PoisonError};

/// The current blockers.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    held: Arc<Mutex<Vec<(u64, String)>>>,
}

/// The program is not ready while this exists.
#[derive(Debug)]
#[must_use = "dropping it makes the program ready"]
pub struct Blocker {
    readiness: Readiness,
    id: u64,
}

impl Readiness {
    /// Makes the program unready until the returned value is dropped; `why` is shown on `/readyz`.
    pub fn block(&self, why: impl Into<String>) -> Blocker {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let id = held.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        held.push((id, why.into()));
        Blocker { readiness: self.clone(), id }
    }

    /// What the program waits for. Empty: it is ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(_, why)| why.clone()).collect()
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        let mut held = self.readiness.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_ready_after_the_last_blocker_is_dropped() {
        let readiness = Readiness::default();
        let first = readiness.block("first configuration");
        let second = readiness.block("listeners");
        assert_eq!(readiness.waiting_for(), ["first configuration", "listeners"]);
        drop(first);
        let third = readiness.block("drain");
        drop(second);
        assert_eq!(readiness.waiting_for(), ["drain"]);
        drop(third);
        assert!(readiness.waiting_for().is_empty());
    }
}
