//! The profiles that a resource says it conforms to: <https://hl7.org/fhir/R4/resource.html#Meta>.
//!
//! Nothing is validated here. A mapping says with which elements a resource conforms to a profile;
//! that it is right is tested over everything that is translated.

use lumbar_fhir::{Json, json};

/// The `profiles` of an entry of a mapping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Vec<Claim>);

#[derive(Clone, Debug)]
struct Claim {
    url: String,
    /// Elements without which the profile is not claimed, each a path of names.
    with: Vec<String>,
}

impl Claims {
    /// The claims of an entry.
    ///
    /// # Errors
    /// A profile without a url.
    pub fn parse(entry: &Json) -> Result<Claims, String> {
        let mut claims = Vec::new();
        for profile in entry.list("profiles") {
            let url = profile.str_at(&["url"]);
            let url = url.ok_or("a profile has no url")?;
            let with = profile.list("with").iter().filter_map(Json::as_str).map(str::to_owned);
            claims.push(Claim { url: url.to_owned(), with: with.collect() });
        }
        Ok(Claims(claims))
    }

    /// Names the profiles in `meta`, which begins with the source.
    pub fn name_in(&self, resource: &mut Json) {
        let holds = |claim: &&Claim| {
            let is_there =
                |path: &String| resource.at(&path.split('.').collect::<Vec<_>>()).is_some();
            claim.with.iter().all(is_there)
        };
        let urls: Vec<Json> =
            self.0.iter().filter(holds).map(|claim| Json::from(claim.url.as_str())).collect();
        if let Some(meta) = resource.get_mut("meta").and_then(Json::as_object_mut)
            && !urls.is_empty()
        {
            meta.set_at(1, "profile", urls);
        }
    }
}

/// The resource as an instance of a profile of ours.
pub(crate) fn claimed(mut resource: Json, profile: &str) -> Json {
    let url = format!("https://lumbar.example/fhir/StructureDefinition/{profile}");
    if let Some(resource) = resource.as_object_mut() {
        resource.set_at(2, "meta", json!({"profile": [(url)]}));
    }
    resource
}
