//! The program as a whole: start to first answer with the demonstration loaded, and idle memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub fn measure(folder: &Path) {
    println!("\n== program ==");
    let database = format!("sqlite:{}", folder.join("demo.db").display());
    // The first start loads the demonstration; what is measured is every later one.
    let mut first = Program::start(&database, true);
    first.wait_for("Look at");
    first.stop();
    let mut starts = Vec::new();
    let mut memory = 0;
    for _ in 0..5 {
        let begin = Instant::now();
        let mut program = Program::start(&database, false);
        let address = program.wait_for("lumbar listening on http://");
        get(&address, "/fhir/ServiceRequest?_count=1");
        starts.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(500));
        memory = program.resident_kib();
        program.stop();
    }
    starts.sort();
    println!(
        "start to first answer, demonstration loaded: {:.0} ms (median of 5)",
        starts[2].as_secs_f64() * 1000.0
    );
    println!("idle resident memory: {} MB", memory / 1024);
}

struct Program {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(database: &str, demo: bool) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumbar"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database", database]);
        if demo {
            command.arg("--demo");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Program { child, out }
    }

    /// Reads lines until one begins so, and returns the rest of it.
    fn wait_for(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "the program ended");
            if let Some(rest) = line.trim().strip_prefix(beginning) {
                return rest.to_owned();
            }
        }
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
