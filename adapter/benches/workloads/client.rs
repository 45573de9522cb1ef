//! A client that costs little: prepared requests over kept connections, answers counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a load came to.
pub struct Measured {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Requests to one address.
pub struct Load {
    address: SocketAddr,
    make: Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>,
    sent: Arc<AtomicU64>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Load {
    pub fn new(address: SocketAddr, make: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Load {
        Load { address, make: Arc::new(make), sent: Arc::default() }
    }

    /// How many requests were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn repeat(address: SocketAddr, request: Vec<u8>) -> Load {
        Load::new(address, move |_| request.clone())
    }

    /// Runs as many tasks for `length`, each sending one request after the other.
    pub async fn run(&self, tasks: usize, length: Duration) -> Measured {
        // Different runs make different resources.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let begin = Instant::now();
        let mut running = Vec::new();
        for _ in 0..tasks {
            let (address, make, count) = (self.address, self.make.clone(), self.sent.clone());
            running.push(tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut times = Vec::new();
                while begin.elapsed() < length {
                    let request = make(NEXT.fetch_add(1, Ordering::Relaxed));
                    let sent = Instant::now();
                    let answer = connection.send(&request).await;
                    times.push(sent.elapsed());
                    count.fetch_add(1, Ordering::Relaxed);
                    assert!(answer.status < 300, "{}", String::from_utf8_lossy(&answer.body));
                }
                times
            }));
        }
        let mut times = Vec::new();
        for task in running {
            times.extend(task.await.unwrap());
        }
        measured(times, begin.elapsed())
    }
}

/// Rate and percentiles of single times.
pub fn measured(mut times: Vec<Duration>, length: Duration) -> Measured {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    Measured {
        per_second: times.len() as f64 / length.as_secs_f64(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, buffer: Vec::with_capacity(1 << 16) }
    }

    async fn send(&mut self, request: &[u8]) -> Answer {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(count > 0, "the service closed the connection");
            if let Some((head, length)) = head(&self.buffer)
                && self.buffer.len() >= head + length
            {
                let status = std::str::from_utf8(&self.buffer[9..12]).unwrap().parse().unwrap();
                return Answer { status, body: self.buffer[head..].to_vec() };
            }
        }
    }
}

/// Length of the head and of the body, once the head is there.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some((end, length.trim().parse().unwrap()))
}

pub fn get_request(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes()
}

pub fn post_request(address: SocketAddr, path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub async fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    Connection::open(address).await.send(&get_request(address, path)).await.body
}

pub async fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    Connection::open(address).await.send(&post_request(address, path, body)).await
}

/// The id of a resource.
pub fn id_of(body: &[u8]) -> String {
    let json = lumbar_fhir::Json::parse(body).unwrap();
    json.str_at(&["id"]).unwrap().to_owned()
}
