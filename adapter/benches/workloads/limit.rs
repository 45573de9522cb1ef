//! The limits: a handler that does nothing but answer, and inserts that do nothing but store.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::client::{Measured, measured};

/// An axum handler that returns `body`.
pub async fn bare_handler(body: &[u8]) -> SocketAddr {
    let body = Bytes::copy_from_slice(body);
    let handler = move || {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/fhir+json")], body) }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Durable inserts of `rows` times `body` by as many tasks, one writer putting all that wait into
/// one SQLite transaction, as the store does.
pub async fn inserts(tasks: usize, length: Duration, body: &str, rows: usize) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let table = "CREATE TABLE bare (row_id INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT)";
    sqlx::query(table).execute(&mut connection).await.unwrap();
    let (send, mut receive) = mpsc::channel::<(String, oneshot::Sender<()>)>(256);
    let stored = body.to_owned();
    let writer = tokio::spawn(async move {
        let mut batch = Vec::new();
        while receive.recv_many(&mut batch, 256).await > 0 {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            for (id, _) in &batch {
                for row in 0..rows {
                    sqlx::query("INSERT INTO bare (id, body) VALUES ($1, $2)")
                        .bind(format!("{id}-{row}"))
                        .bind(&stored)
                        .execute(&mut *transaction)
                        .await
                        .unwrap();
                }
            }
            transaction.commit().await.unwrap();
            for (_, answer) in batch.drain(..) {
                let _ = answer.send(());
            }
        }
    });
    let begin = Instant::now();
    let mut running = Vec::new();
    for _ in 0..tasks {
        let send = send.clone();
        running.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < length {
                let sent = Instant::now();
                let (answer, answered) = oneshot::channel();
                send.send((uuid::Uuid::new_v4().to_string(), answer)).await.unwrap();
                answered.await.unwrap();
                times.push(sent.elapsed());
            }
            times
        }));
    }
    drop(send);
    let mut times = Vec::new();
    for task in running {
        times.extend(task.await.unwrap());
    }
    let result = measured(times, begin.elapsed());
    writer.await.unwrap();
    result
}
