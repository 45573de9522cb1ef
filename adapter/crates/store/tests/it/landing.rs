use lumbar_store::{LandedRow, Message, RowKey, Store};

use crate::on_each;

fn row(key: &str, body: &str) -> LandedRow {
    LandedRow {
        key: RowKey { source: "ZZ99".into(), table: "t".into(), key: key.into() },
        file: "t.csv".into(),
        line: 1,
        digest: body.as_bytes().into(),
        body: body.as_bytes().into(),
    }
}

fn keys(rows: &[RowKey]) -> Vec<&str> {
    rows.iter().map(|row| &*row.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_land_once_and_their_earlier_states_are_kept() {
    on_each(async |store: &Store| {
        let landing = &store.landing;
        let first = vec![row("a", "1"), row("b", "1"), row("", "1")];
        assert_eq!(keys(&landing.put(first.clone(), 10).await.unwrap()), ["a", "b", ""]);
        assert!(landing.put(first, 11).await.unwrap().is_empty());
        let changed =
            vec![row("b", "2"), row("a", "1"), row("c", "1"), row("b", "3"), row("b", "3")];
        assert_eq!(keys(&landing.put(changed, 12).await.unwrap()), ["b", "c"]);
        assert_eq!(keys(&landing.put(vec![row("b", "1")], 13).await.unwrap()), ["b"]);

        let found = landing.get("ZZ99", "t", &["c", "b", "none", "b"]).await.unwrap();
        assert_eq!(found, [row("b", "1"), row("c", "1")]);
        let page = landing.scan("ZZ99", "t", "", 2).await.unwrap();
        assert_eq!(page, [row("", "1"), row("a", "1")]);
        let page = landing.scan("ZZ99", "t", "a", 9).await.unwrap();
        assert_eq!(page, [row("b", "1"), row("c", "1")]);
        assert!(landing.scan("ZZ99", "other", "", 9).await.unwrap().is_empty());
        let before = landing.before(&row("b", "").key, 9).await.unwrap();
        let before: Vec<_> = before.iter().map(|(at, row)| (*at, &*row.body)).collect();
        assert_eq!(before, [(12, &b"3"[..]), (12, b"2"), (10, b"1")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_land_in_one_call() {
    on_each(async |store: &Store| {
        let rows = |body: &str| -> Vec<_> {
            (0..1000).map(|number| row(&format!("{number:04}"), body)).collect()
        };
        assert_eq!(store.landing.put(rows("\0\u{fffd}"), 1).await.unwrap().len(), 1000);
        assert_eq!(store.landing.put(rows("\0\u{fffd}"), 2).await.unwrap().len(), 0);
        assert_eq!(store.landing.put(rows("3"), 3).await.unwrap().len(), 1000);
        let mut after = String::new();
        let mut seen = 0;
        loop {
            let page = store.landing.scan("ZZ99", "t", &after, 300).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.key.key.clone();
            seen += page.len();
        }
        assert_eq!(seen, 1000);
        let wanted: Vec<String> = (0..1000).map(|number| format!("{number:04}")).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        assert_eq!(store.landing.get("ZZ99", "t", &wanted).await.unwrap(), rows("3"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_kept_once() {
    on_each(async |store: &Store| {
        let message = Message {
            source: "s".into(),
            digest: [1, 2][..].into(),
            media_type: "x-application/hl7-v2+er7".into(),
            received: 5,
            body: [0, 255, 13][..].into(),
        };
        let (number, new) = store.landing.put_message(message.clone()).await.unwrap();
        assert!(new);
        let later = Message { received: 6, ..message.clone() };
        assert_eq!(store.landing.put_message(later).await.unwrap(), (number, false));
        assert_eq!(store.landing.message(number).await.unwrap(), Some(message));
        assert_eq!(store.landing.message(number + 1).await.unwrap(), None);
    })
    .await;
}
