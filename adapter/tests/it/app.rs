//! The service as tests use it: the real router over a real database. Time and ids are inputs.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use lumbar::app::App;
use lumbar::config::{Options, Settings};
use lumbar::facade::Source;
use lumbar::http::router;
use lumbar::rules::Rules;
use lumbar_fhir::Json;
use lumbar_fhir::definitions::Definitions;
use lumbar_store::Store;
use tempfile::TempDir;
use tower::ServiceExt;

/// Where clients of the test service would find it.
pub const BASE: &str = "http://lumbar.test/fhir";
/// 2026-03-02T10:00:00Z, a Monday.
pub const BEGIN: i64 = 1_772_445_600_000_000;
/// One second in microseconds.
pub const SECOND: i64 = 1_000_000;

/// A clock that moves when it is told to, and ids that count: `id-1`, `id-2`, …
pub struct Given {
    now: AtomicI64,
    ids: AtomicU64,
}

impl Source for Given {
    fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn id(&self) -> String {
        format!("id-{}", self.ids.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Given {
    /// Lets time pass.
    pub fn advance(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::SeqCst);
    }
}

/// The service over one database.
pub struct TestApp {
    pub app: Arc<App>,
    pub source: Arc<Given>,
    pub router: Router,
    /// Which database this is.
    pub database: &'static str,
    url: String,
    store: Store,
    /// Where bulk jobs have their files; kept until the last of those that share it.
    folder: Arc<TempDir>,
}

/// What a client gets.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    /// The body as JSON; fails when it is none.
    pub fn json(&self) -> Json {
        Json::parse(self.text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// A header, when it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The reply, when its status is the one expected.
    #[track_caller]
    pub fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }
}

impl TestApp {
    async fn open(url: &str, database: &'static str, change: &impl Fn(&mut Settings)) -> TestApp {
        let source = Arc::new(Given { now: AtomicI64::new(BEGIN), ids: AtomicU64::new(0) });
        static DEFINITIONS: OnceLock<Definitions> = OnceLock::new();
        let definitions = DEFINITIONS.get_or_init(Definitions::r4).clone();
        let options = Options { base_url: Some(BASE.to_owned()), ..Options::default() };
        let mut settings = options.settle().unwrap();
        let folder = Arc::new(TempDir::new().unwrap());
        settings.bulk.folder = folder.path().join("bulk");
        change(&mut settings);
        TestApp::build(url, database, settings, definitions, source, folder).await
    }

    async fn build(
        url: &str,
        database: &'static str,
        settings: Settings,
        definitions: Definitions,
        source: Arc<Given>,
        folder: Arc<TempDir>,
    ) -> TestApp {
        let rules = Rules::embedded().unwrap_or_else(|issue| panic!("{issue:?}"));
        TestApp::follow(url, database, settings, definitions, source, folder, rules).await
    }

    async fn follow(
        url: &str,
        database: &'static str,
        settings: Settings,
        definitions: Definitions,
        source: Arc<Given>,
        folder: Arc<TempDir>,
        rules: Rules,
    ) -> TestApp {
        let store = Store::open(url, lumbar_store::Options::default()).await.unwrap();
        let app = Arc::new(App::new(settings, &store, definitions, rules, source.clone()));
        let router = router(app.clone());
        let url = url.to_owned();
        TestApp { app, source, router, database, url, store, folder }
    }

    /// The service once more over the same database and files, with the same settings, clock and
    /// ids.
    pub async fn again(&self) -> TestApp {
        let (settings, definitions) = (self.app.settings.clone(), self.app.facade.definitions());
        let (source, folder) = (self.source.clone(), self.folder.clone());
        let definitions = (*definitions).clone();
        TestApp::build(&self.url, self.database, settings, definitions, source, folder).await
    }

    /// The same service once more over the same database, by other rules.
    pub async fn with_rules(&self, rules: Rules) -> TestApp {
        let (settings, definitions) = (self.app.settings.clone(), self.app.facade.definitions());
        let (source, folder) = (self.source.clone(), self.folder.clone());
        let definitions = (*definitions).clone();
        let (url, database) = (&self.url, self.database);
        TestApp::follow(url, database, settings, definitions, source, folder, rules).await
    }

    /// Another process on the same database, with definitions of its own.
    pub async fn with(&self, definitions: Definitions) -> TestApp {
        let (settings, source) = (self.app.settings.clone(), self.source.clone());
        let folder = self.folder.clone();
        TestApp::build(&self.url, self.database, settings, definitions, source, folder).await
    }

    /// Closes the connections.
    pub async fn close(self) {
        self.store.close().await;
    }

    /// One request. A second passes before it. A body without Content-Type is FHIR JSON.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Reply {
        self.source.advance(SECOND);
        let body: Vec<u8> = body.into();
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty()
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            request = request.header("content-type", "application/fhir+json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// `GET /fhir/{path}`.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", &format!("/fhir/{path}"), &[], "").await
    }

    /// `POST /fhir/{path}`.
    pub async fn post(&self, path: &str, body: &Json) -> Reply {
        self.call("POST", &format!("/fhir/{path}"), &[], body.to_string()).await
    }

    /// `PUT` of a resource under its own type and id.
    pub async fn put(&self, resource: &Json) -> Reply {
        let path = format!("/fhir/{}", reference(resource));
        self.call("PUT", &path, &[], resource.to_string()).await
    }

    /// How many resources of a type there are.
    pub async fn count(&self, of: &str) -> i64 {
        let reply = self.get(&format!("{of}?_summary=count")).await.is(200);
        reply.json().get("total").and_then(Json::as_i64).expect("a total")
    }

    /// The resources that a search finds, following its pages to the end.
    pub async fn search(&self, query: &str) -> Vec<Json> {
        let mut found = Vec::new();
        let mut next = Some(query.to_owned());
        while let Some(query) = next {
            let page = self.get(&query).await.is(200).json();
            found.extend(
                page.list("entry").iter().map(|entry| entry.get("resource").unwrap().clone()),
            );
            next = link(&page, "next").map(|url| below_base(&url));
        }
        found
    }
}

/// A link of a Bundle.
pub fn link(bundle: &Json, relation: &str) -> Option<String> {
    let mut links = bundle.list("link").iter();
    let link = links.find(|link| link.str_at(&["relation"]) == Some(relation))?;
    Some(link.str_at(&["url"]).expect("a link has a url").to_owned())
}

/// The part of a URL below the base, which it must have.
pub fn below_base(url: &str) -> String {
    let path = url.strip_prefix(BASE).unwrap_or_else(|| panic!("{url} is not below {BASE}"));
    path.trim_start_matches('/').to_owned()
}

/// `Type/id`.
pub fn reference(resource: &Json) -> String {
    let part = |name| resource.str_at(&[name]).unwrap_or_else(|| panic!("no {name}: {resource:?}"));
    format!("{}/{}", part("resourceType"), part("id"))
}

/// Runs a test on SQLite, and on PostgreSQL where it is installed.
pub async fn on_both(test: impl AsyncFn(&TestApp)) {
    on_both_with(|_| (), test).await;
}

/// The same with settings of its own.
pub async fn on_both_with(change: impl Fn(&mut Settings), test: impl AsyncFn(&TestApp)) {
    on_sqlite(&change, &test).await;
    if let Some(found) = lumbar_testkit::postgres() {
        run(TestApp::open(&found.url, "PostgreSQL", &change).await, &test).await;
    }
}

/// Runs a test on SQLite only, where the database makes no difference.
pub async fn on_sqlite(change: &impl Fn(&mut Settings), test: &impl AsyncFn(&TestApp)) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("lumbar.db").display());
    run(TestApp::open(&url, "SQLite", change).await, test).await;
}

async fn run(app: TestApp, test: &impl AsyncFn(&TestApp)) {
    println!("on {}", app.database);
    test(&app).await;
    app.close().await;
}

/// A JSON file of `fixtures/`.
pub fn fixture(path: &str) -> Json {
    read_json(&lumbar_testkit::fixtures().join(path))
}

/// A JSON file.
pub fn read_json(path: &Path) -> Json {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
