//! The start page in a real browser: all of it without a script, and on a narrow screen.

use std::path::Path;
use std::process::Command;

use lumbar_testkit::chromium;
use tempfile::TempDir;

use crate::app::{TestApp, fixture, on_sqlite};

/// Stores a patient with a long name, a referral and two forms, the second after the first.
async fn fill(app: &TestApp) {
    let patient = r#"{"resourceType":"Patient","id":"p1","name":[{"given":["Wilhelmina-Bartholomea"],"family":"Featherstonehaugh-Cholmondeley <b>x</b>"}]}"#;
    app.call("PUT", "/fhir/Patient/p1", &[], patient).await.is(201);
    let case = fixture("pathways/keele-stratified/high.json");
    app.put(&case.get("found").unwrap().list("requests")[0]).await.is(201);
    let mut response = case.get("response").unwrap().clone();
    app.put(&response).await.is(201);
    response.set("id", "r2");
    response.set("authored", "2026-04-20T09:00:00Z");
    app.put(&response).await.is(201);
}

/// Serves the app on a free port while `test` runs, which gets its root URL.
async fn served(test: impl AsyncFn(&str)) {
    on_sqlite(&|_| (), &async |app: &TestApp| {
        fill(app).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}/", listener.local_addr().unwrap());
        let router = app.router.clone();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        test(&root).await;
        server.abort();
    })
    .await;
}

/// Runs the browser with a profile of its own; gives its stdout.
async fn browse(browser: &Path, arguments: &[&str]) -> String {
    let profile = TempDir::new().unwrap();
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .args(["--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--disable-sync"])
        .args(["--disable-component-update", "--disable-extensions", "--disable-default-apps"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments);
    // The page is served by this process: the browser must not block its only thread.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_page_says_all_without_a_script() {
    let Some(browser) = chromium() else { return };
    served(async |root: &str| {
        // The browser needs its own script to print the page; the page's policy allows none.
        let dom = browse(&browser, &["--dump-dom", root]).await;
        for part in [
            "Wilhelmina-Bartholomea Featherstonehaugh-Cholmondeley &lt;b&gt;x&lt;/b&gt;",
            "referred 27 February 2026",
            "Match proposed",
            "class=\"risk high\"",
            "STarT Back total 7 of 9, psychosocial 4 of 5: high risk",
            "<svg class=\"chart\"",
            "<polyline",
            "lang=\"en-GB\"",
        ] {
            assert!(dom.contains(part), "{part} is not in the page:\n{dom}");
        }
        for script in ["<script", "javascript:", " onclick=", " onload=", " onerror="] {
            assert!(!dom.to_lowercase().contains(script), "the page has a script: {script}");
        }
    })
    .await;
}

/// The page in a frame of 320 pixels, measured by a page beside it, so that the page itself needs
/// no script.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_overflows_at_320_pixels() {
    let Some(browser) = chromium() else { return };
    served(async |root: &str| {
        for width in [320, 400, 1280] {
            let measured = overflow(&browser, root, width).await;
            assert!(measured <= width, "at {width} pixels the page is {measured} pixels wide");
        }
    })
    .await;
}

/// The width that the page needs in a window of `width` pixels.
async fn overflow(browser: &Path, root: &str, width: u32) -> u32 {
    // The served HTML and stylesheet, as they are, in a frame of this width; only the measuring
    // page around it has a script.
    let client = crate::program::client();
    let text = async |path: &str| {
        client.get(format!("{root}{path}")).send().await.unwrap().text().await.unwrap()
    };
    let (html, css) = (text("").await, text("lumbar.css").await);
    let link = "<link rel=\"stylesheet\" href=\"/lumbar.css\">";
    assert!(html.contains(link), "the page has another stylesheet");
    let inner = html.replace(link, &format!("<style>{css}</style>"));
    let escaped = inner.replace('&', "&amp;").replace('"', "&quot;");
    let outer = format!(
        "<!doctype html><iframe id=f style=\"width:{width}px;height:800px;border:0\" srcdoc=\"{escaped}\"></iframe>\
         <p id=w>not measured</p><script>f.onload = () => w.textContent = 'width=' + f.contentDocument.documentElement.scrollWidth + ';'</script>"
    );
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("measure.html");
    std::fs::write(&page, outer).unwrap();
    let url = format!("file://{}", page.display());
    let dom = browse(browser, &["--window-size=1600,1000", "--dump-dom", &url]).await;
    let measured = dom.split("<p id=\"w\">width=").nth(1).and_then(|rest| rest.split(';').next());
    let measured = measured.unwrap_or_else(|| panic!("nothing was measured: {dom}"));
    measured.parse().unwrap()
}

/// What a keyboard reaches and a screen reader reads, by the page's own markup.
#[tokio::test]
async fn the_start_page_can_be_read_without_seeing_it() {
    on_sqlite(&|_| (), &async |app: &TestApp| {
        fill(app).await;
        let page = app.call("GET", "/", &[], "").await.is(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(
            page.header("cache-control"),
            Some("no-store"),
            "a page with patients is not kept"
        );
        assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
        let html = &page.text;
        assert_eq!(html.matches("<h1>").count(), 1);
        let svgs = html.matches("<svg").count();
        assert!(svgs > 0);
        assert_eq!(html.matches("<title>").count(), svgs + 1, "each drawing has a title");
        assert_eq!(html.matches("<desc>").count(), svgs, "each drawing has its values as text");
        assert!(
            html.contains("href=\"#referrals\"") && html.contains("id=\"referrals\""),
            "no way past the heading"
        );
        assert!(!html.contains("<b>x</b>"), "a name became markup");
        for link in html.split("href=\"/").skip(1) {
            let path = format!("/{}", link.split('"').next().unwrap());
            app.call("GET", &path, &[], "").await.is(200);
        }
    })
    .await;
}

#[tokio::test]
async fn an_empty_start_page_says_what_to_do() {
    on_sqlite(&|_| (), &async |app: &TestApp| {
        let page = app.call("GET", "/", &[], "").await.is(200);
        assert!(page.text.contains("There are no referrals yet"), "{}", page.text);
    })
    .await;
}
