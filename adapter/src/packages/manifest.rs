//! What a package says of itself in its `package.json`.

use lumbar_fhir::Json;

/// Packages whose content is compiled in.
const BUNDLED: &str = "hl7.fhir.r4.";

/// Name and version of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name, for example `hl7.fhir.uv.sdc`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The names and versions of what it depends on.
    pub dependencies: Vec<(String, String)>,
}

impl Manifest {
    /// Reads a `package.json`; `None` if it is not that of a FHIR package.
    ///
    /// # Errors
    /// A sentence when it cannot be read, or is for another version of FHIR.
    pub(super) fn read(text: &[u8], place: &str) -> Result<Option<Manifest>, String> {
        let json = Json::parse(text).map_err(|error| format!("{place}: {error}"))?;
        let versions: Vec<&str> = ["fhirVersions", "fhir-version-list"]
            .iter()
            .flat_map(|name| json.list(name))
            .filter_map(Json::as_str)
            .collect();
        let dependencies = json.get("dependencies").and_then(Json::as_object);
        let dependencies: Vec<(String, String)> = dependencies
            .into_iter()
            .flat_map(|all| all.iter())
            .map(|(name, version)| (name.to_owned(), version.as_str().unwrap_or("*").to_owned()))
            .collect();
        let is_fhir = |(name, _): &(String, String)| name.contains(".fhir.");
        let Some(name) = json.str_at(&["name"]) else { return Ok(None) };
        if versions.is_empty() && !dependencies.iter().any(is_fhir) {
            return Ok(None);
        }
        let version = json.str_at(&["version"]).unwrap_or_default();
        let is_r4 = |version: &str| version.starts_with("4.0");
        if !versions.is_empty() && !versions.iter().any(|version| is_r4(version)) {
            return Err(format!(
                "{place}: package {name} {version} is for FHIR {}, not for R4 (4.0.1); take the \
                 package of the same name for R4",
                versions.join(", ")
            ));
        }
        Ok(Some(Manifest { name: name.to_owned(), version: version.to_owned(), dependencies }))
    }
}

/// A sentence for each package that is wanted and not there.
pub(super) fn missing(manifests: &[Manifest]) -> Vec<String> {
    let mut told = Vec::new();
    for manifest in manifests {
        for (name, version) in &manifest.dependencies {
            if name.starts_with(BUNDLED) {
                continue;
            }
            let by = format!("{} {}", manifest.name, manifest.version);
            let there: Vec<&Manifest> = manifests.iter().filter(|m| m.name == *name).collect();
            if there.is_empty() {
                told.push(format!(
                    "package {name} {version}, which {by} depends on, is missing; put it on a path \
                     of --profiles"
                ));
            } else if !there.iter().any(|found| is_wanted(version, &found.version)) {
                let found: Vec<&str> = there.iter().map(|found| found.version.as_str()).collect();
                told.push(format!(
                    "package {by} depends on {name} {version}; {} is used instead",
                    found.join(", ")
                ));
            }
        }
    }
    told
}

/// Whether a version is the wanted one; `x` stands for any part, and `current` or `latest` for any
/// version.
fn is_wanted(wanted: &str, version: &str) -> bool {
    if matches!(wanted, "*" | "current" | "dev" | "latest") {
        return true;
    }
    let wanted = wanted.trim_start_matches(['^', '~']);
    let mut parts = version.split('.');
    let fits = wanted.split('.').all(|part| {
        let found = parts.next();
        matches!(part, "x" | "X" | "*") || found == Some(part)
    });
    fits && (parts.next().is_none() || wanted.ends_with(['x', 'X', '*']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_matched_with_wildcards() {
        for (wanted, version) in
            [("1.0.0", "1.0.0"), ("1.0.x", "1.0.7"), ("1.x", "1.2.3"), ("latest", "9"), ("*", "1")]
        {
            assert!(is_wanted(wanted, version), "{wanted} {version}");
        }
        for (wanted, version) in [("1.0.0", "1.0.1"), ("1.0.x", "1.1.0"), ("1.0", "1.0.1")] {
            assert!(!is_wanted(wanted, version), "{wanted} {version}");
        }
    }
}
