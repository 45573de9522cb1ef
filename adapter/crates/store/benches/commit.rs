//! Durable creates per second through `Resources::commit`, beside a bare loop of inserts of the
//! same bodies with the same settings and as many to a transaction.
//!
//! `cargo bench -p lumbar-store`; with `LUMBAR_BENCH_POSTGRES=URL` on PostgreSQL, too (without
//! the bare loop; an empty database).
#![expect(clippy::unwrap_used, reason = "a bench that cannot run must fail")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lumbar_fhir::search::{IndexRow, IndexValue};
use lumbar_store::{Change, Commit, Method, Options, Store};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

/// About what an Observation takes, 1 KiB.
fn body(number: u64) -> Arc<str> {
    format!(r#"{{"resourceType":"Observation","id":"{number}","note":"{}"}}"#, "x".repeat(950))
        .into()
}

/// Ids that look random, as made-up ids do.
fn id(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}-{number:08x}-{:08x}", mixed >> 32)
}

fn create(number: u64) -> Commit {
    let key = |code: &str, key: String| IndexRow { code: code.into(), value: IndexValue::Key(key) };
    let at = i64::try_from(number).unwrap() * 1_000_000;
    let index = vec![
        key("code", format!("7161{}\u{1}http://snomed.info/sct", number % 40)),
        key("category", "survey\u{1}http://terminology.hl7.org/CodeSystem/category".into()),
        key("status", "final\u{1}http://hl7.org/fhir/observation-status".into()),
        key("subject", format!("Patient/{}", id(number % 5000))),
        key("identifier", format!("{number}\u{1}https://example.org/observation")),
        key("derived-from", format!("QuestionnaireResponse/{}", id(number))),
        IndexRow { code: "date".into(), value: IndexValue::Date(at, at + 999_999) },
        IndexRow { code: "value-quantity".into(), value: IndexValue::Number(3.5, 4.5, "".into()) },
    ];
    let change = Change {
        resource_type: "Observation".into(),
        id: id(number),
        expected: None,
        version: 1,
        last_updated: at,
        method: Method::Create,
        body: Some(body(number)),
        index,
    };
    Commit { changes: vec![change], ..Commit::default() }
}

/// Creates through the store, with as many tasks at once.
struct ThroughStore {
    store: Store,
    tasks: u64,
    next: Arc<AtomicU64>,
}

impl ThroughStore {
    async fn run(&self, length: Duration) {
        let begin = Instant::now();
        let mut running = Vec::new();
        for _ in 0..self.tasks {
            let (resources, next) = (self.store.resources.clone(), self.next.clone());
            running.push(tokio::spawn(async move {
                while begin.elapsed() < length {
                    resources.commit(create(next.fetch_add(1, Ordering::Relaxed))).await.unwrap();
                }
            }));
        }
        for task in running {
            task.await.unwrap();
        }
    }
}

/// Inserts without the store.
struct Bare {
    connection: SqliteConnection,
    next: u64,
}

impl Bare {
    async fn open(path: &Path) -> Bare {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("temp_store", "memory")
            .pragma("cache_size", "-131072")
            .pragma("wal_autocheckpoint", "8000");
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query("CREATE TABLE bare (row_id INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT)")
            .execute(&mut connection)
            .await
            .unwrap();
        Bare { connection, next: 0 }
    }

    async fn run(&mut self, size: u64, length: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < length {
            let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            for _ in 0..size {
                sqlx::query("INSERT INTO bare (id, body) VALUES ($1, $2)")
                    .bind(id(self.next))
                    .bind(body(self.next))
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                self.next += 1;
            }
            transaction.commit().await.unwrap();
        }
    }
}

async fn open(url: &str, tasks: u64) -> ThroughStore {
    let store = Store::open(url, Options::default()).await.unwrap();
    // Other runs on the same database use other numbers.
    ThroughStore { store, tasks, next: Arc::new(AtomicU64::new(tasks << 32)) }
}

async fn compare(folder: &Path, tasks: u64, rounds: u32, round: Duration) {
    let file = folder.join(format!("store-{tasks}.db"));
    let through = open(&format!("sqlite:{}", file.display()), tasks).await;
    let mut bare = Bare::open(&folder.join(format!("bare-{tasks}.db"))).await;
    let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
    // By turns, so that both meet the same moods of the machine.
    for _ in 0..rounds {
        let begin = Instant::now();
        through.run(round).await;
        with += begin.elapsed();
        let begin = Instant::now();
        bare.run(tasks, round).await;
        without += begin.elapsed();
    }
    let created = through.next.load(Ordering::Relaxed) - (tasks << 32);
    let with = created as f64 / with.as_secs_f64();
    let without = bare.next as f64 / without.as_secs_f64();
    println!("{tasks:5} {with:11.0} {without:11.0} {:7.2}", with / without);
    through.store.close().await;
    bare.connection.close().await.unwrap();
    if let Ok(url) = std::env::var("LUMBAR_BENCH_POSTGRES") {
        let through = open(&url, tasks).await;
        let begin = Instant::now();
        through.run(round * rounds).await;
        let created = through.next.load(Ordering::Relaxed) - (tasks << 32);
        println!("{tasks:5} {:11.0} on PostgreSQL", created as f64 / begin.elapsed().as_secs_f64());
        through.store.close().await;
    }
}

fn main() {
    // Also run by `cargo test --benches`, where it only has to work.
    let measure = std::env::args().any(|argument| argument == "--bench");
    let (rounds, round) =
        if measure { (8, Duration::from_millis(700)) } else { (1, Duration::ZERO) };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("durable creates per second, 8 index rows each");
    println!("tasks       store        bare   ratio");
    for tasks in [1, 8, 64] {
        runtime.block_on(compare(folder.path(), tasks, rounds, round));
    }
}
