use std::time::Duration;

use lumbar_store::{Job, Jobs, Kinds, NewJob, State, Store};

use crate::on_each;

const LEASE: Duration = Duration::from_micros(100);

fn new(key: &str, destination: &str, not_before: i64) -> NewJob {
    NewJob {
        kind: "send".into(),
        key: key.into(),
        destination: destination.into(),
        body: format!("body of {key}").into(),
        not_before,
    }
}

async fn claim(jobs: &Jobs, now: i64) -> Option<Job> {
    jobs.claim("w", now, LEASE).await.unwrap()
}

async fn claimed(jobs: &Jobs, now: i64) -> String {
    claim(jobs, now).await.map_or("-".into(), |job| job.key)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_destination_run_in_order() {
    on_each(async |store: &Store| {
        let jobs = &store.jobs;
        let list = vec![new("a1", "a", 5), new("a2", "a", 1), new("b1", "b", 9), new("x", "", 7)];
        jobs.enqueue(list).await.unwrap();
        jobs.enqueue(vec![new("a1", "c", 0)]).await.unwrap();
        assert_eq!(jobs.list(State::Waiting, 0, 9).await.unwrap().len(), 4);
        assert_eq!(claimed(jobs, 4).await, "-", "a2 waits for a1, which waits for its time");
        let first = claim(jobs, 20).await.unwrap();
        assert_eq!((&*first.key, &*first.body, first.attempts), ("a1", "body of a1", 1));
        assert_eq!(claimed(jobs, 20).await, "x");
        assert_eq!(claimed(jobs, 20).await, "b1");
        assert_eq!(claimed(jobs, 20).await, "-");
        assert!(jobs.retry(&first, 50, "503").await.unwrap());
        assert_eq!(claimed(jobs, 49).await, "-", "a2 still waits for a1");
        let first = claim(jobs, 50).await.unwrap();
        assert_eq!((&*first.key, first.attempts), ("a1", 2));
        assert!(jobs.give_up(&first, "410").await.unwrap());
        let given_up = &jobs.list(State::GivenUp, 0, 9).await.unwrap()[0];
        assert_eq!((&*given_up.job.key, &*given_up.reason), ("a1", "410"));
        let second = claim(jobs, 50).await.unwrap();
        assert_eq!(second.key, "a2");
        assert!(jobs.done(&second).await.unwrap());
        assert!(!jobs.done(&second).await.unwrap(), "it is done already");
        assert_eq!(jobs.list(State::Running, 0, 9).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_lease_lets_another_worker_in() {
    on_each(async |store: &Store| {
        let jobs = &store.jobs;
        jobs.enqueue(vec![new("a", "d", 0)]).await.unwrap();
        let slow = claim(jobs, 0).await.unwrap();
        assert_eq!(claimed(jobs, 99).await, "-");
        let other = claim(jobs, 100).await.unwrap();
        assert_eq!((other.id, other.attempts), (slow.id, 2));
        assert!(!jobs.done(&slow).await.unwrap());
        assert!(!jobs.retry(&slow, 0, "late").await.unwrap());
        assert!(jobs.done(&other).await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_is_claimed_by_one_worker() {
    on_each(async |store: &Store| {
        let list = (0..50).map(|number| new(&number.to_string(), "", 0)).collect();
        store.jobs.enqueue(list).await.unwrap();
        let mut workers = Vec::new();
        for worker in 0..4 {
            let jobs = store.jobs.clone();
            workers.push(tokio::spawn(async move {
                let mut mine = Vec::new();
                while let Some(job) = jobs.claim(&worker.to_string(), 1, LEASE).await.unwrap() {
                    assert!(jobs.done(&job).await.unwrap());
                    mine.push(job.id);
                }
                mine
            }));
        }
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 50);
        assert_eq!(store.jobs.list(State::Done, 0, 99).await.unwrap().len(), 50);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_job_holds_its_destination_until_it_is_released() {
    on_each(async |store: &Store| {
        let jobs = &store.jobs;
        let list = vec![new("a1", "a", 0), new("a2", "a", 0), new("b1", "b", 0)];
        jobs.enqueue(list).await.unwrap();
        let first = claim(jobs, 1).await.unwrap();
        assert!(jobs.hold(&first, "404").await.unwrap());
        assert_eq!(claimed(jobs, i64::MAX - 1).await, "b1", "only a is held");
        assert_eq!(claimed(jobs, i64::MAX - 1).await, "-");
        let open = jobs.of_destination("a", State::Waiting, 9).await.unwrap();
        let told: Vec<_> = open.iter().map(|l| (&*l.job.key, l.is_held(), &*l.reason)).collect();
        assert_eq!(told, [("a1", true, "404"), ("a2", false, "")]);
        jobs.release("a", 5).await.unwrap();
        assert_eq!(claimed(jobs, 4).await, "-");
        let again = claim(jobs, 5).await.unwrap();
        assert_eq!((&*again.key, again.attempts), ("a1", 2));
        assert!(jobs.give_up(&again, "gone").await.unwrap());
        assert!(jobs.done(&claim(jobs, 5).await.unwrap()).await.unwrap());
        let counts = jobs.counts("a", 9).await.unwrap();
        assert_eq!((counts.open, counts.done, counts.given_up), (0, 1, 1));
        jobs.enqueue(vec![new("a3", "a", 0)]).await.unwrap();
        jobs.replay("a", 6).await.unwrap();
        assert_eq!(jobs.counts("a", 1).await.unwrap().open, 1, "it counts no further than asked");
        assert_eq!(claimed(jobs, 6).await, "a1", "it takes its old place");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_kinds_are_claimed_and_others_left() {
    on_each(async |store: &Store| {
        let jobs = &store.jobs;
        let kind = |kind: &str, key: &str, destination: &str| NewJob {
            kind: kind.into(),
            ..new(key, destination, 0)
        };
        let list = vec![kind("x", "x1", "a"), kind("y", "y1", "a"), kind("y", "y2", "")];
        jobs.enqueue(list).await.unwrap();
        let claim = async |kinds| {
            let job = jobs.claim_among("w", 1, LEASE, kinds).await.unwrap();
            job.map_or("-".to_owned(), |job| job.key)
        };
        assert_eq!(claim(Kinds::Only(&["y", "z"])).await, "y2", "y1 stands behind x1");
        assert_eq!(claim(Kinds::Except(&["x"])).await, "-");
        assert_eq!(claim(Kinds::Except(&["y"])).await, "x1");
    })
    .await;
}
