use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use lumbar_store::{AuditRow, Commit, NewJob, State};

use crate::{change, commit, fresh, open};

const URL: &str = "LUMBAR_STORE_TEST_CHILD";

/// Not a test by itself: writes without end when started by the test below.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(url) = env::var(URL) else { return };
    let store = open(&url).await;
    let mut tasks = Vec::new();
    for task in 0..8 {
        let resources = store.resources.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..100_000 {
                let id = format!("{task}-{number}");
                let job = NewJob {
                    kind: "k".into(),
                    key: id.clone(),
                    destination: String::new(),
                    body: "".into(),
                    not_before: 0,
                };
                let write = Commit {
                    jobs: vec![job],
                    audit: vec![AuditRow { recorded: 0, body: id.as_str().into() }],
                    ..commit([change("Patient", &id, 1, &[("name", &id)])])
                };
                resources.commit(write).await.unwrap();
                println!("stored {id}.");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    for database in fresh() {
        open(&database.url).await.close().await;
        let mut acknowledged = Vec::new();
        {
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["durability::child", "--exact", "--nocapture"])
                .env(URL, &database.url)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut here = 0;
            for line in lines.map_while(Result::ok) {
                if let Some((_, id)) = line.split_once("stored ")
                    && let Some(id) = id.strip_suffix('.')
                {
                    acknowledged.push(id.to_owned());
                    here += 1;
                }
                if here == 100 {
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
            assert!(here >= 100, "the child ended after {here}");
            let store = open(&database.url).await;
            let jobs = store.jobs.list(State::Waiting, 0, usize::MAX).await.unwrap();
            let audit = store.resources.audit(0, usize::MAX).await.unwrap();
            assert_eq!(jobs.len(), audit.len());
            let known: std::collections::HashSet<_> =
                jobs.iter().map(|listed| &*listed.job.key).collect();
            for id in &acknowledged {
                let stored = store.resources.read("Patient", id).await.unwrap();
                assert!(stored.is_some() && known.contains(&**id), "{id} is lost");
            }
            for listed in &jobs {
                let id = &listed.job.key;
                let stored = store.resources.read("Patient", id).await.unwrap();
                assert!(stored.is_some(), "{id} has a job but no resource");
            }
            store.close().await;
        }
    }
}
