//! A package as one file: a tar archive, compressed with gzip. It is read from beginning to end and
//! never unpacked to the disk, so the names in it harm nothing.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// Most bytes that a package has when it is unpacked.
pub(super) const MAX_UNPACKED: u64 = 512 * 1024 * 1024;

/// Calls `each` with the name and content of each file of the folder `package`, in order.
pub(super) fn read(
    path: &Path,
    max_file: u64,
    max_files: usize,
    mut each: impl FnMut(&str, Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| fault(&error))?;
    let bounded = Bounded { of: MultiGzDecoder::new(BufReader::new(file)), left: MAX_UNPACKED };
    let mut archive = tar::Archive::new(bounded);
    for (number, entry) in archive.entries().map_err(|error| fault(&error))?.enumerate() {
        let entry = entry.map_err(|error| fault(&error))?;
        if number >= max_files {
            return Err(fault(&format!("a package has {max_files} files at most")));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = name.trim_start_matches("./").strip_prefix("package/") else { continue };
        if name.contains('/') || !name.ends_with(".json") || !entry.header().entry_type().is_file()
        {
            continue;
        }
        if entry.size() > max_file {
            return Err(fault(&format!("{name} has more than {max_file} bytes")));
        }
        let mut content = Vec::new();
        entry.take(max_file).read_to_end(&mut content).map_err(|error| fault(&error))?;
        each(name, content)?;
    }
    Ok(())
}

/// A reader that fails when more than so many bytes come.
struct Bounded<R> {
    of: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.of.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("a package has {MAX_UNPACKED} bytes at most, unpacked"))
        })?;
        Ok(read)
    }
}
