//! Files that are fetched from others, with bounds on time and size, and never held in memory.

use std::time::Duration;

use reqwest::redirect::Policy;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::what_failed;

/// Longest time for a connection, and between two pieces of a file.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time for one file.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Fetches `url` into `file`; gives its length. Redirects are not followed: they could lead to a
/// host that nobody allowed.
///
/// # Errors
/// A sentence: it cannot be reached, does not answer 200, or gives more than `most` bytes.
pub async fn download(url: &str, file: &mut File, most: u64) -> Result<u64, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .timeout(LONGEST)
        .redirect(Policy::none())
        .no_proxy()
        .build()
        .map_err(|_| "No HTTP client can be set up.".to_owned())?;
    let failed = |error: reqwest::Error| format!("The host of the file {}.", what_failed(&error));
    let request = client.get(url).header("accept", "application/fhir+ndjson");
    let mut response = request.send().await.map_err(failed)?;
    if response.status().as_u16() != 200 {
        return Err(format!("The host of the file answers {}.", response.status().as_u16()));
    }
    let mut length: u64 = 0;
    let kept = |_| "The file cannot be kept; the disk may be full.".to_owned();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        length = length.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if length > most {
            return Err(format!("The file is larger than {most} bytes."));
        }
        file.write_all(&chunk).await.map_err(kept)?;
    }
    file.flush().await.map_err(kept)?;
    file.sync_data().await.map_err(kept)?;
    Ok(length)
}
