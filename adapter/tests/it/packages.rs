//! What `--profiles` takes: <https://confluence.hl7.org/display/FHIR/NPM+Package+Specification>.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use lumbar::facade::validation::{Asked, Known};
use lumbar::packages::Packages;
use lumbar::serve;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::validate::Limits;
use lumbar_fhir::{Json, json};
use tempfile::TempDir;

use crate::program::{database, lumbar};

/// A package file of these members, names and texts as they are.
fn package(folder: &Path, file: &str, members: &[(&str, String)]) -> PathBuf {
    let path = folder.join(file);
    let encoder = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    for (name, text) in members {
        let mut header = tar::Header::new_gnu();
        // Names that the library itself would refuse.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
    path
}

fn manifest(name: &str, version: &str, fhir: &str, dependencies: Json) -> (&'static str, String) {
    let json = json!({
        "name": name, "version": version, "fhirVersions": [fhir], "dependencies": dependencies
    });
    ("package/package.json", json.to_string())
}

fn value_set(url: &str, version: &str) -> String {
    json!({
        "resourceType": "ValueSet", "id": "v", "url": url, "version": version, "status": "draft"
    })
    .to_string()
}

fn load(paths: &[PathBuf]) -> Result<Packages, String> {
    Packages::load(paths, &Definitions::r4())
}

fn refused(paths: &[PathBuf]) -> String {
    match load(paths) {
        Err(text) => text,
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn a_canonical_is_found_in_its_version_or_the_newest() {
    let folder = TempDir::new().unwrap();
    for (file, version) in [("a", "1.10.0"), ("b", "1.9.0"), ("c", "2.0.0-ballot"), ("d", "2.0.0")]
    {
        let members = [
            manifest("x", version, "4.0.1", json!({"hl7.fhir.r4.core": "4.0.1"})),
            ("package/ValueSet-v.json", value_set("urn:v", version)),
        ];
        package(folder.path(), &format!("{file}.tgz"), &members);
    }
    let packages = load(&[folder.path().to_owned()]).unwrap();
    let version = |canonical: &str| packages.find("ValueSet", canonical)?.version.clone();
    assert_eq!(version("urn:v").as_deref(), Some("2.0.0"));
    assert_eq!(version("urn:v|1.9.0").as_deref(), Some("1.9.0"));
    assert_eq!(version("urn:v|2.0.0-ballot").as_deref(), Some("2.0.0-ballot"));
    assert_eq!(version("urn:v|3.0.0"), None);
    assert!(packages.find("CodeSystem", "urn:v").is_none());
    assert_eq!(packages.of_type("ValueSet").count(), 4);
    assert_eq!(packages.warnings, Vec::<String>::new());
}

#[test]
fn a_missing_dependency_is_told_and_a_wrong_version_of_fhir_refused() {
    let folder = TempDir::new().unwrap();
    let wants = json!({"there": "1.0.x", "gone": "2.1.0", "other": "1.0.0"});
    let one = package(folder.path(), "1.tgz", &[manifest("one", "3.0.0", "4.0.1", wants)]);
    let two = package(folder.path(), "2.tgz", &[manifest("there", "1.0.7", "4.0.1", json!({}))]);
    let three = package(folder.path(), "3.tgz", &[manifest("other", "1.1.0", "4.0.0", json!({}))]);
    let told = load(&[one, two, three]).unwrap().warnings;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("gone 2.1.0") && told[0].contains("one 3.0.0"), "{told:?}");
    assert!(told[1].contains("other 1.0.0") && told[1].contains("1.1.0 is used"), "{told:?}");

    let five = package(folder.path(), "5.tgz", &[manifest("five", "1", "5.0.0", json!({}))]);
    let said = refused(&[five]);
    assert!(said.contains("five 1 is for FHIR 5.0.0") && said.contains("5.tgz"), "{said}");
}

#[test]
fn only_conformance_resources_of_a_package_are_taken_and_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let patient = json!({"resourceType": "Patient", "id": "p"}).to_string();
    let path = package(
        folder.path(),
        "x.tgz",
        &[
            manifest("x", "1", "4.0.1", json!({})),
            ("package/.index.json", "{\"files\": []}".to_owned()),
            ("package/Patient-p.json", patient),
            ("package/example/ValueSet-e.json", value_set("urn:example", "1")),
            ("package/other.txt", "no JSON".to_owned()),
            ("../../evil.json", value_set("urn:evil", "1")),
            ("/absolute/evil.json", value_set("urn:evil", "1")),
            ("package/../evil.json", value_set("urn:evil", "1")),
            ("package/ValueSet-v.json", value_set("urn:v", "1")),
        ],
    );
    let packages = load(&[path]).unwrap();
    let urls: Vec<_> = packages.entries().iter().filter_map(|entry| entry.url.as_deref()).collect();
    assert_eq!(urls, ["urn:v"]);
    assert_eq!(packages.skipped, 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let entry = packages.find("ValueSet", "urn:v").unwrap();
    assert!(entry.in_package && entry.place.ends_with("x.tgz: ValueSet-v.json"), "{}", entry.place);
    assert_eq!(entry.resource().unwrap().str_at(&["status"]), Some("draft"));
}

#[test]
fn a_broken_or_huge_package_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("no.tgz"), "no gzip").unwrap();
    assert!(refused(&[path("no.tgz")]).contains("no.tgz"));
    let whole = package(folder.path(), "w.tgz", &[("package/v.json", value_set("urn:v", "1"))]);
    assert!(refused(std::slice::from_ref(&whole)).contains("package.json is missing"));
    let bytes = fs::read(whole).unwrap();
    fs::write(path("cut.tgz"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused(&[path("cut.tgz")]).contains("cut.tgz"));
    let large = package(
        folder.path(),
        "large.tgz",
        &[manifest("x", "1", "4.0.1", json!({})), ("package/l.json", " ".repeat(33 << 20))],
    );
    assert!(fs::metadata(&large).unwrap().len() < 1 << 20);
    assert!(refused(&[large]).contains("l.json has more than"));
    let broken = package(
        folder.path(),
        "broken.tgz",
        &[manifest("x", "1", "4.0.1", json!({})), ("package/b.json", "{\"a\": ".to_owned())],
    );
    assert!(refused(&[broken]).contains("broken.tgz: b.json"));
    assert!(refused(&[path("nothing.json")]).contains("nothing.json"));
    fs::write(path("a.txt"), "text").unwrap();
    assert!(refused(&[path("a.txt")]).contains("neither a FHIR resource"));
}

#[test]
fn folders_are_read_to_their_bottom_in_json_xml_and_bundles() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join("v.json"), value_set("urn:json", "1")).unwrap();
    let xml = r#"<ValueSet xmlns="http://hl7.org/fhir"><id value="x"/><url value="urn:xml"/>
        <status value="draft"/></ValueSet>"#;
    fs::write(folder.path().join("v.xml"), xml).unwrap();
    let entry = Json::parse(value_set("urn:bundle", "1").as_bytes()).unwrap();
    let bundle = json!({
        "resourceType": "Bundle", "type": "collection",
        "entry": [{"resource": entry}, {"resource": {"resourceType": "Patient"}}]
    });
    fs::write(folder.path().join("bundle.json"), bundle.to_string()).unwrap();
    fs::write(folder.path().join("notes.md"), "no resource").unwrap();
    fs::write(folder.path().join("other.json"), "{}").unwrap();
    let packages = load(&[folder.path().to_owned()]).unwrap();
    for url in ["urn:json", "urn:xml", "urn:bundle"] {
        assert!(packages.find("ValueSet", url).is_some(), "{url}");
    }
    assert_eq!((packages.entries().len(), packages.skipped), (3, 1));
    assert!(packages.entries().iter().all(|entry| !entry.in_package));
}

#[test]
fn a_site_serves_its_own_artefacts_and_uses_those_of_packages() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("v1.json"), value_set("urn:own", "1.0.0")).unwrap();
    fs::write(folder.path().join("v2.json"), value_set("urn:own", "1.1.0")).unwrap();
    let members =
        [manifest("x", "1", "4.0.1", json!({})), ("package/v.json", value_set("urn:v", "1"))];
    package(folder.path(), "x.tgz", &members);
    let (_, rules) = serve::definitions(&[folder.path().to_owned()]).unwrap();
    let served = |url: &str| -> Vec<&str> {
        let found = rules.packages.own().filter(|found| found.url.as_deref() == Some(url));
        found.filter_map(|found| found.version.as_deref()).collect()
    };
    assert_eq!(served("urn:own"), ["1.1.0"]);
    assert!(served("urn:v").is_empty());
    assert!(rules.packages.find("ValueSet", "urn:v").is_some());
}

#[test]
fn an_artefact_that_is_not_valid_stops_the_start_with_its_file_element_and_rule() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("wrong.json");
    // Neither a differential nor a snapshot.
    let wrong = json!({
        "resourceType": "StructureDefinition", "id": "wrong", "url": "http://example.org/wrong",
        "name": "Wrong", "status": "draft", "kind": "resource", "abstract": false,
        "type": "Patient", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient"
    });
    fs::write(&file, wrong.to_string()).unwrap();
    let (file, database) = (file.display().to_string(), database(&folder));
    let told = format!("{file}: StructureDefinition: ");
    for (command, code) in [("serve", 2), ("check", 1)] {
        let options = ["--listen", "127.0.0.1:0", "--database", &database, "--profiles", &file];
        let output = lumbar(&[command]).args(options).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        let said = said.concat();
        assert_eq!(output.status.code(), Some(code), "{command}: {said}");
        assert!(said.contains(&told) && said.contains("(sdf-6)"), "{command}: {said}");
    }
}

#[test]
fn resources_are_held_against_the_profiles_of_packages() {
    let folder = TempDir::new().unwrap();
    let profile = json!({
        "resourceType": "StructureDefinition", "id": "p", "url": "urn:p", "name": "P",
        "status": "draft", "kind": "resource", "abstract": false, "type": "Patient",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "derivation": "constraint",
        "differential": {"element": [{"path": "Patient.birthDate", "min": 1}]}
    });
    let members = [manifest("x", "1", "4.0.1", json!({})), ("package/p.json", profile.to_string())];
    let path = package(folder.path(), "x.tgz", &members);
    let (definitions, rules) = serve::definitions(&[path]).unwrap();
    let known = Known::of(&rules);
    let errors = |patient: &Json| -> Vec<String> {
        let (issues, _) = known.look(
            &definitions,
            &known.resources,
            patient,
            Asked::of(&[]),
            Limits::default(),
            0,
        );
        issues.into_iter().filter(|issue| issue.is_error()).map(|issue| issue.text).collect()
    };
    let mut patient = json!({"resourceType": "Patient", "meta": {"profile": ["urn:p"]}});
    let told = errors(&patient);
    assert!(told.len() == 1 && told[0].contains("birthDate"), "{told:?}");
    patient.set("birthDate", "1970-01-01");
    assert_eq!(errors(&patient), Vec::<String>::new());
}

#[test]
fn published_packages_load() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    for (place, least, profiles) in
        [("ukcore", 370, 153), ("sdc", 120, 86), ("bars/simplifier", 35, 10)]
    {
        let path = shared.join("fhir").join(place);
        let (_, rules) =
            serve::definitions(std::slice::from_ref(&path)).unwrap_or_else(|said| panic!("{said}"));
        let packages = rules.packages;
        assert!(packages.entries().len() >= least, "{place}: {}", packages.entries().len());
        assert_eq!(packages.of_type("StructureDefinition").count(), profiles, "{place}");
        for entry in packages.entries() {
            let resource = entry.resource().unwrap();
            assert_eq!(resource.str_at(&["url"]), entry.url.as_deref(), "{}", entry.place);
            assert_eq!(resource.str_at(&["version"]), entry.version.as_deref(), "{}", entry.place);
        }
        println!("{place}: {} taken, {} left out", packages.entries().len(), packages.skipped);
    }
}
