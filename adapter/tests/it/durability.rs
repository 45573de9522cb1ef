//! What was acknowledged is there, whatever happens to the process.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lumbar_fhir::Json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::program::{Program, client, database, lumbar, until};

/// Writes Patients with numbers of their own until the service is gone; gives the acknowledged
/// ids with their numbers.
async fn write(root: String, writer: usize, count: Arc<AtomicUsize>) -> Vec<(String, String)> {
    let client = client();
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let number = format!("{writer}-{number}");
        let body = format!(
            r#"{{"resourceType":"Patient","identifier":[{{"system":"http://lumbar.test/number","value":"{number}"}}]}}"#
        );
        let request = client
            .post(format!("{root}/fhir/Patient"))
            .header("content-type", "application/fhir+json");
        let Ok(answer) = request.body(body).send().await else { break };
        let status = answer.status().as_u16();
        // An answer that broke off is no acknowledgement.
        let Ok(bytes) = answer.bytes().await else { break };
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&bytes));
        let patient = Json::parse(&bytes).unwrap();
        acknowledged.push((patient.str_at(&["id"]).unwrap().to_owned(), number));
        count.fetch_add(1, Ordering::SeqCst);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_outlives_a_kill() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut all: Vec<(String, String)> = Vec::new();
    for round in 0..3 {
        let program = Program::serve(&database(&folder), &[], "info", &log);
        let count = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                tokio::spawn(write(program.root.clone(), round * 4 + writer, count.clone()))
            })
            .collect();
        until("writes", async || (count.load(Ordering::SeqCst) >= 100).then_some(())).await;
        program.kill();
        for writer in writers {
            all.extend(writer.await.unwrap());
        }
    }
    assert!(all.len() >= 300, "{}", all.len());
    let program = Program::serve(&database(&folder), &[], "info", &log);
    let client = client();
    let get = async |path: String| {
        let answer = client.get(format!("{}/fhir/{path}", program.root)).send().await.unwrap();
        (answer.status().as_u16(), Json::parse(&answer.bytes().await.unwrap()).unwrap())
    };
    for (id, number) in &all {
        let (status, patient) = get(format!("Patient/{id}")).await;
        assert_eq!(status, 200, "Patient/{id} was acknowledged and is lost");
        assert_eq!(patient.list("identifier")[0].str_at(&["value"]), Some(number.as_str()));
        let (_, found) =
            get(format!("Patient?identifier=http://lumbar.test/number|{number}")).await;
        let ids: Vec<_> =
            found.list("entry").iter().map(|e| e.str_at(&["resource", "id"])).collect();
        assert_eq!(ids, [Some(id.as_str())], "Patient/{id} is not found by search");
    }
    // A write whose answer was lost may be there, but at most one for each writer and kill.
    let (_, found) = get("Patient?_summary=count".to_owned()).await;
    let total = usize::try_from(found.get("total").unwrap().as_i64().unwrap()).unwrap();
    assert!((all.len()..=all.len() + 12).contains(&total), "{total} of {}", all.len());
    program.terminate();
    assert_eq!(program.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_running_requests_finish() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let program = Program::serve(&database(&folder), &[], "info", &log);
    let address = program.root.trim_start_matches("http://").to_owned();
    let body = r#"{"resourceType":"Basic","id":"last","code":{"text":"x"}}"#;
    let head = format!(
        "PUT /fhir/Basic/last HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The service asks for the body: the request is running.
    let mut buffer = vec![0; 1024];
    let count = stream.read(&mut buffer).await.unwrap();
    assert!(
        buffer[..count].starts_with(b"HTTP/1.1 100"),
        "{}",
        String::from_utf8_lossy(&buffer[..count])
    );
    stream.write_all(&body.as_bytes()[..10]).await.unwrap();
    program.terminate();
    // It accepts nobody any more …
    until("the end of listening", async || {
        TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
    // … and still finishes what runs.
    stream.write_all(&body.as_bytes()[10..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(program.end().code(), Some(0));

    let program = Program::serve(&database(&folder), &[], "info", &log);
    let answer = client().get(format!("{}/fhir/Basic/last", program.root)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

/// Whoever has read the line may stop the service at once.
#[test]
fn sigterm_right_after_the_start_ends_well() {
    let folder = TempDir::new().unwrap();
    for _ in 0..5 {
        let program = Program::serve(&database(&folder), &[], "info", &folder.path().join("log"));
        program.terminate();
        assert_eq!(program.end().code(), Some(0));
    }
}

/// Several at once change one resource: each acknowledged version is a different one.
#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_resource_never_share_a_version() {
    let folder = TempDir::new().unwrap();
    let program = Program::serve(&database(&folder), &[], "info", &folder.path().join("log"));
    let failed = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (client, failed) = (client(), failed.clone());
            let url = format!("{}/fhir/Basic/one", program.root);
            tokio::spawn(async move {
                let mut tags = Vec::new();
                for round in 0..10 {
                    let body = format!(r#"{{"resourceType":"Basic","id":"one","code":{{"text":"{writer}.{round}"}}}}"#);
                    let request = client.put(&url).header("content-type", "application/fhir+json").body(body);
                    let answer = request.send().await.unwrap();
                    match answer.status().as_u16() {
                        200 | 201 => tags.push(answer.headers()["etag"].to_str().unwrap().to_owned()),
                        409 => {}
                        _ => failed.store(true, Ordering::SeqCst),
                    }
                }
                tags
            })
        })
        .collect();
    let mut tags = Vec::new();
    for writer in writers {
        tags.extend(writer.await.unwrap());
    }
    assert!(
        !failed.load(Ordering::SeqCst),
        "a write was neither done nor a conflict:\n{}",
        program.log()
    );
    let acknowledged = tags.len();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), acknowledged, "two writes got the same version");
    let history = client()
        .get(format!("{}/fhir/Basic/one/_history?_count=0", program.root))
        .send()
        .await
        .unwrap();
    let total =
        Json::parse(&history.bytes().await.unwrap()).unwrap().get("total").unwrap().as_i64();
    assert_eq!(total, i64::try_from(acknowledged).ok());
}

/// Exit code and stderr of a command that does not serve.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_configuration_that_cannot_be_is_refused_in_one_sentence() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("lumbar.toml");
    let database = database(&folder);
    let path = config.to_str().unwrap();
    for (text, named) in [
        ("listne = \"127.0.0.1:0\"\n", "listne"),
        ("demo = true\nlisten = 7\n", "line 2"),
        ("listen = \n", "line 1"),
        ("booking = \"ftp://somewhere\"\n", "booking"),
    ] {
        std::fs::write(&config, text).unwrap();
        let (code, told) = refused(&mut lumbar(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database",
            &database,
            "--config",
            path,
        ]));
        assert!(code.is_some_and(|code| code != 0), "{text}: {code:?}");
        assert!(told.contains(named), "{text}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
    for arguments in [
        ["serve", "--listen", "0.0.0.0:0", "--database", &database],
        ["serve", "--listen", "[::]:0", "--database", &database],
    ] {
        let (code, told) = refused(&mut lumbar(&arguments));
        assert!(code.is_some_and(|code| code != 0), "{arguments:?}");
        assert!(told.contains("--auth none") && told.contains("--allow-open"), "{told}");
    }
    let (code, told) =
        refused(lumbar(&["serve", "--database", &database]).env("LUMBAR_LISTEN", "nowhere"));
    assert!(code.is_some_and(|code| code != 0) && told.contains("nowhere"), "{told}");
    let (code, told) = refused(&mut lumbar(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--database",
        "sqlite:/nonexistent/folder/lumbar.db",
    ]));
    assert!(code.is_some_and(|code| code != 0) && told.contains("database"), "{told}");
}

/// Flag, then variable, then file.
#[tokio::test]
async fn a_flag_is_stronger_than_a_variable_and_that_than_the_file() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("lumbar.toml");
    std::fs::write(&config, "base-url = \"http://file.test/fhir\"\nmax-body-bytes = 100\n")
        .unwrap();
    let database = database(&folder);
    let log = folder.path().join("log");
    let more = ["--config", config.to_str().unwrap(), "--base-url", "http://flag.test/fhir"];
    let program = Program::serve(&database, &more, "info", &log);
    let root = program.root.clone();
    let client = client();
    let statement = client.get(format!("{root}/fhir/metadata")).send().await.unwrap();
    let statement = Json::parse(&statement.bytes().await.unwrap()).unwrap();
    assert_eq!(statement.str_at(&["implementation", "url"]), Some("http://flag.test/fhir"));
    let post =
        client.post(format!("{root}/fhir/Basic")).header("content-type", "application/fhir+json");
    assert_eq!(post.body(" ".repeat(101)).send().await.unwrap().status().as_u16(), 413);
}

/// What makes nothing but the schema and the help.
#[test]
fn migrate_and_help_end_well() {
    let folder = TempDir::new().unwrap();
    let database = database(&folder);
    for _ in 0..2 {
        let output = lumbar(&["migrate", "--database", &database]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for command in ["check", "convert", "export", "import", "migrate", "score", "serve"] {
        let output = lumbar(&[command, "--help"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Example: lumbar "), "{command}: {text}");
    }
}
