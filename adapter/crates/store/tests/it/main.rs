//! The store on SQLite and on PostgreSQL: the same tests for both.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

mod bulk;
mod durability;
mod jobs;
mod landing;
mod random;
mod referrers;
mod reindex;
mod resources;
mod search;
mod terms;

use lumbar_fhir::search::{IndexRow, IndexValue};
use lumbar_store::{Change, Commit, Method, Options, Store};
use tempfile::TempDir;

/// A database that has never been opened.
struct Fresh {
    url: String,
    /// Removes the file of SQLite.
    _folder: Option<TempDir>,
}

/// One of each kind that can be had here.
fn fresh() -> Vec<Fresh> {
    let folder = TempDir::new().unwrap();
    let file = format!("sqlite:{}", folder.path().join("store.db").display());
    let mut all = vec![Fresh { url: file, _folder: Some(folder) }];
    all.extend(lumbar_testkit::postgres().map(|found| Fresh { url: found.url, _folder: None }));
    all
}

/// Runs a test on each kind of database, and on SQLite in memory.
async fn on_each(test: impl AsyncFn(&Store)) {
    let mut urls = vec!["sqlite::memory:".to_owned()];
    let databases = fresh();
    urls.extend(databases.iter().map(|database| database.url.clone()));
    for url in urls {
        println!("on {url}");
        let store = open(&url).await;
        test(&store).await;
        store.close().await;
    }
}

async fn open(url: &str) -> Store {
    Store::open(url, Options::default()).await.unwrap()
}

/// A change that makes version `version` the successor of the one before.
fn change(resource_type: &str, id: &str, version: i64, keys: &[(&str, &str)]) -> Change {
    let key = |&(code, key): &(&str, &str)| IndexRow {
        code: code.into(),
        value: IndexValue::Key(key.into()),
    };
    let method = if version == 1 { Method::Create } else { Method::Update };
    Change {
        resource_type: resource_type.into(),
        id: id.into(),
        expected: (version > 1).then_some(version - 1),
        version,
        last_updated: version * 1000,
        method,
        body: Some(format!(r#"{{"id":"{id}","version":{version}}}"#).into()),
        index: keys.iter().map(key).collect(),
    }
}

fn deletion(resource_type: &str, id: &str, version: i64) -> Change {
    let method = Method::Delete;
    Change { method, body: None, ..change(resource_type, id, version, &[]) }
}

fn commit(changes: impl IntoIterator<Item = Change>) -> Commit {
    Commit { changes: changes.into_iter().collect(), ..Commit::default() }
}
