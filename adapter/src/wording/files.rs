//! The files of `--wording`.

use std::fs;
use std::path::{Path, PathBuf};

/// Most packs of all paths.
const MAX_FILES: usize = 1_000;
/// Most bytes of one pack.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Most folders within each other.
const MAX_DEPTH: usize = 8;

/// Each file's place and bytes, in order, and what cannot be read, with why.
pub(super) fn read(paths: &[PathBuf]) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let mut reader = Reader { texts: Vec::new(), refused: Vec::new(), files: 0 };
    for path in paths {
        if let Err(error) = reader.path(path, 0, true) {
            reader.refused.push(error);
        }
    }
    (reader.texts, reader.refused)
}

struct Reader {
    texts: Vec<(String, Vec<u8>)>,
    refused: Vec<String>,
    files: usize,
}

impl Reader {
    fn path(&mut self, path: &Path, depth: usize, is_named: bool) -> Result<(), String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(fault(&format!("there are more than {MAX_FILES} files of --wording")));
        }
        let meta = fs::metadata(path).map_err(|error| fault(&error))?;
        if meta.is_dir() {
            if depth > MAX_DEPTH {
                return Err(fault(&format!("folders lie more than {MAX_DEPTH} deep")));
            }
            let mut found: Vec<PathBuf> = Vec::new();
            for entry in fs::read_dir(path).map_err(|error| fault(&error))?.take(MAX_FILES + 1) {
                found.push(entry.map_err(|error| fault(&error))?.path());
            }
            found.sort();
            for path in found {
                if let Err(error) = self.path(&path, depth + 1, false) {
                    self.refused.push(error);
                }
            }
            return Ok(());
        }
        if !is_named && path.extension().is_none_or(|extension| extension != "json") {
            return Ok(());
        }
        if !meta.is_file() {
            return Err(fault(&"it is neither a file nor a folder"));
        }
        if meta.len() > MAX_FILE {
            return Err(fault(&format!("a wording pack has {MAX_FILE} bytes at most")));
        }
        let text = fs::read(path).map_err(|error| fault(&error))?;
        self.texts.push((path.display().to_string(), text));
        Ok(())
    }
}
