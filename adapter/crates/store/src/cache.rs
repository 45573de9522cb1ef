//! Current versions in memory, so that reading the same resource again costs no query.
//!
//! Never stale, also when another process writes to the same SQLite file: every committed
//! transaction changes a counter in the WAL index
//! (<https://www.sqlite.org/walformat.html#the_wal_index_file_format>), whose file is read at each
//! look. What our own writer changed is taken out one by one; a change of anybody else empties the
//! cache. PostgreSQL has no such counter, so nothing is kept for it.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::resources::Stored;

/// Bytes of bodies that are kept, about: the newer half and the older half.
const HALF_BYTES: usize = 8 << 20;
/// Larger bodies are not kept.
const MAX_BODY_BYTES: usize = 64 << 10;
/// What an entry takes besides its body, about.
const ENTRY_BYTES: usize = 256;
/// First number of a WAL index that this code understands.
const WAL_INDEX_VERSION: u32 = 3_007_000;

/// Where the number of committed transactions stands.
#[derive(Debug)]
pub(crate) enum Counter {
    /// Nowhere: nothing may be kept.
    None,
    /// Nobody else can write, so our own writer's word is enough.
    Alone,
    /// The WAL index of a SQLite file.
    WalIndex(File),
}

/// Current versions by type and id.
#[derive(Debug)]
pub(crate) struct Cache {
    counter: Counter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The counter for which the entries are true.
    valid_at: u32,
    /// Our writer is committing, so a new counter may be ours.
    committing: bool,
    newer: Entries,
    older: Entries,
    newer_bytes: usize,
}

type Entries = HashMap<Box<str>, HashMap<Box<str>, Stored>>;

/// What a look into the cache gave.
pub(crate) enum Look {
    /// The current version.
    Hit(Stored),
    /// Not here; with a number, what is read now may be kept by [`Cache::keep`].
    Miss(Option<u32>),
}

impl Counter {
    /// The counter of the SQLite file at `path`, whose WAL index exists once it was written to.
    pub(crate) fn of_file(path: &Path) -> Counter {
        let mut name = path.as_os_str().to_owned();
        name.push("-shm");
        let file = File::open(name).ok();
        let known = file.filter(|file| number(file, 0) == Some(WAL_INDEX_VERSION));
        known.map_or(Counter::None, Counter::WalIndex)
    }

    fn read(&self) -> Option<u32> {
        match self {
            Counter::None => None,
            Counter::Alone => Some(0),
            Counter::WalIndex(file) => number(file, 8),
        }
    }
}

/// A number in the header of a WAL index, which is in the machine's byte order.
fn number(file: &File, offset: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(u32::from_ne_bytes(bytes))
}

impl Cache {
    pub(crate) fn new(counter: Counter) -> Cache {
        let state = State { valid_at: counter.read().unwrap_or(0), ..State::default() };
        Cache { counter, state: Mutex::new(state) }
    }

    /// The current version of a resource, if it is here and true.
    pub(crate) fn look(&self, resource_type: &str, id: &str) -> Look {
        let Some(now) = self.counter.read() else { return Look::Miss(None) };
        let mut state = self.state();
        if state.valid_at != now {
            if state.committing {
                return Look::Miss(None);
            }
            state.clear(now);
        }
        match state.get(resource_type, id) {
            Some(stored) => Look::Hit(stored),
            None => Look::Miss(Some(now)),
        }
    }

    /// Keeps what was read after a miss at `valid_at`, unless something was committed since.
    pub(crate) fn keep(&self, valid_at: u32, stored: &Stored) {
        let is_current = self.counter.read() == Some(valid_at);
        let mut state = self.state();
        if is_current && state.valid_at == valid_at {
            state.insert(stored.clone());
        }
    }

    /// Our writer is about to commit. The number goes to [`Cache::committed`].
    pub(crate) fn committing(&self) -> Option<u32> {
        let now = self.counter.read();
        self.state().committing = true;
        now
    }

    /// Our writer has committed changes of these resources, or, without them, may have.
    pub(crate) fn committed<'a>(
        &self,
        before: Option<u32>,
        changed: Option<impl Iterator<Item = (&'a str, &'a str)>>,
    ) {
        let now = self.counter.read();
        let mut state = self.state();
        state.committing = false;
        let (Some(before), Some(now)) = (before, now) else { return };
        match changed {
            // One transaction was committed since, which is ours.
            Some(changed) if state.valid_at == before && now.wrapping_sub(before) <= 1 => {
                changed.for_each(|(resource_type, id)| state.remove(resource_type, id));
                state.valid_at = now;
            }
            _ => state.clear(now),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with the lock left whole entries behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self, now: u32) {
        self.newer.clear();
        self.older.clear();
        self.newer_bytes = 0;
        self.valid_at = now;
    }

    fn get(&mut self, resource_type: &str, id: &str) -> Option<Stored> {
        let in_newer = self.newer.get(resource_type).and_then(|entries| entries.get(id));
        if let Some(stored) = in_newer {
            return Some(stored.clone());
        }
        let stored = self.older.get_mut(resource_type)?.remove(id)?;
        self.insert(stored.clone());
        Some(stored)
    }

    fn insert(&mut self, stored: Stored) {
        let bytes = stored.body.as_ref().map_or(0, |body| body.len());
        if bytes > MAX_BODY_BYTES {
            return;
        }
        if self.newer_bytes > HALF_BYTES {
            // What was not looked at since the last turn goes.
            self.older = std::mem::take(&mut self.newer);
            self.newer_bytes = 0;
        }
        self.newer_bytes += bytes + ENTRY_BYTES;
        let entries = self.newer.entry(stored.resource_type.as_str().into()).or_default();
        entries.insert(stored.id.as_str().into(), stored);
    }

    fn remove(&mut self, resource_type: &str, id: &str) {
        for entries in [&mut self.newer, &mut self.older] {
            if let Some(entries) = entries.get_mut(resource_type) {
                entries.remove(id);
            }
        }
    }
}
