//! Folders of files that grow line by line: what bulk jobs write, and what they fetch.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// A folder of folders, one for each job.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at a path, which is made when it is needed.
    pub fn new(path: &Path) -> Folder {
        Folder(path.to_owned())
    }

    /// A file of a job. Both names are ours: letters, digits, hyphens and points.
    pub fn path(&self, job: &str, name: &str) -> PathBuf {
        self.0.join(job).join(name)
    }

    /// Opens a file of a job to go on after its first `length` bytes; what is behind them was
    /// written by somebody who did not come to an end, and is cut off.
    ///
    /// # Errors
    /// It cannot be opened, or is shorter.
    pub async fn append(&self, job: &str, name: &str, length: u64) -> io::Result<File> {
        // What is in them is for nobody else on the machine.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.0.join(job)).await?;
        let path = self.path(job, name);
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(path).await?;
        if file.metadata().await?.len() < length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short"));
        }
        file.set_len(length).await?;
        file.seek(SeekFrom::Start(length)).await?;
        Ok(file)
    }

    /// Opens a file of a job for reading from `offset` on.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(&self, job: &str, name: &str, offset: u64) -> io::Result<File> {
        let mut file = File::open(self.path(job, name)).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        Ok(file)
    }

    /// Removes the folder of a job with all its files; one that is not there is gone already.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(&self, job: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.0.join(job)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Jobs whose folders have not changed for `age`.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn older(&self, age: Duration) -> io::Result<Vec<String>> {
        let mut entries = match fs::read_dir(&self.0).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut jobs = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            let modified = entry.metadata().await?.modified()?;
            let is_old = modified.elapsed().is_ok_and(|elapsed| elapsed > age);
            if let (true, Ok(name)) = (is_old, entry.file_name().into_string()) {
                jobs.push(name);
            }
        }
        Ok(jobs)
    }
}

/// Writes bytes so that they survive a power cut.
///
/// # Errors
/// The disk is full or broken.
pub async fn write_durably(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes).await?;
    file.flush().await?;
    file.sync_data().await
}
