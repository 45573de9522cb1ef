//! What FHIRPath asks of the world around a value: <https://hl7.org/fhir/R4/fhirpath.html#functions>.
//!
//! Terminology, profiles and resources are those of the validation. What they do not know leaves
//! an invariant undecided, which is told and never guessed.

use std::cell::RefCell;

use super::item::Item;
use super::words::shown;
use super::{Need, Place, Scope, Validator};
use crate::Json;
use crate::definitions::Kind;
use crate::path::{Context, Environment, Expression, PathError, Target, Value};
use crate::profile::short;

/// The outcome of a condition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// It holds, or comes to nothing.
    Holds,
    Fails,
    /// It did not come to true, and rests on this, which is not known here.
    Undecided(String),
}

/// A validation and where it stands.
struct Around<'v, 'a> {
    validator: &'v Validator<'a>,
    scope: Scope<'a>,
    /// Elements above the value.
    depth: usize,
    /// What was asked for first of that which is not known.
    lacking: RefCell<Option<String>>,
}

impl Around<'_, '_> {
    fn lack(&self, what: impl FnOnce() -> String) {
        self.lacking.borrow_mut().get_or_insert_with(what);
    }
}

impl<'a> Validator<'a> {
    /// Whether an expression holds for a value.
    pub(super) fn truth<'v>(
        &'v self,
        expression: &'v Expression,
        focus: Value<'v>,
        scope: Scope<'v>,
        depth: usize,
    ) -> Result<Truth, PathError>
    where
        'a: 'v,
    {
        let around = Around { validator: self, scope, depth, lacking: RefCell::default() };
        let context = self.context(&around, scope);
        let holds = expression.holds(&self.tally, &context, &[focus]);
        let is_undecided = self.tally.take_undecided();
        Ok(match holds? {
            None | Some(false) if is_undecided => {
                let has_now = self.world.is_some_and(|world| world.now.is_some());
                Truth::Undecided(around.lacking.take().unwrap_or_else(|| match has_now {
                    true => "what stands outside of the resource".to_owned(),
                    false => "the present time".to_owned(),
                }))
            }
            Some(false) => Truth::Fails,
            _ => Truth::Holds,
        })
    }

    /// Whether any of the values that an expression selects from the resource is meant; `None`
    /// where it cannot be evaluated.
    pub(super) fn selects<'v>(
        &'v self,
        expression: &'v Expression,
        scope: Scope<'v>,
        is_meant: impl Fn(&[Value<'_>]) -> bool,
    ) -> Option<bool>
    where
        'a: 'v,
    {
        let around = Around { validator: self, scope, depth: 0, lacking: RefCell::default() };
        let context = self.context(&around, scope);
        let focus = [Value::node(scope.resource)];
        let found = expression.evaluate_within(&self.tally, &context, &focus);
        found.ok().map(|found| is_meant(&found))
    }

    fn context<'c>(&self, around: &'c Around<'c, 'c>, scope: Scope<'c>) -> Context<'c>
    where
        'a: 'c,
    {
        Context {
            resource: Some(Value::node(scope.resource)),
            root_resource: Some(Value::node(scope.container)),
            bundle: scope.bundle,
            now: self.world.and_then(|world| world.now),
            environment: self.world.map(|_| around as &dyn Environment<'c>),
            ..Context::new(self.definitions)
        }
    }
}

impl<'c> Environment<'c> for Around<'c, 'c> {
    fn resolve(&self, reference: &str) -> Target<'c> {
        let Some(world) = self.validator.world else { return Target::Unknown };
        match world.resources.find(reference) {
            Some(Some(json)) => Target::Found(json),
            Some(None) => Target::Absent,
            None => {
                world.missing.note(Need::Resource(reference.to_owned()));
                self.lack(|| "the target of a reference".to_owned());
                Target::Unknown
            }
        }
    }

    fn member_of(&self, value: &Value<'c>, value_set: &str) -> Option<bool> {
        let text;
        let json = match value.json() {
            Some(json) => json,
            None => {
                text = value.to_json();
                &text
            }
        };
        let of_type = match value.type_name() {
            "System.String" => "string",
            name => name,
        };
        let is_member = self.validator.terms.is_member(value_set, of_type, json);
        if is_member.is_none() {
            self.lack(|| format!("the content of the value set {}", shown(value_set)));
        }
        is_member
    }

    fn conforms_to(&self, value: &Value<'c>, profile: &str) -> Option<bool> {
        let validator = self.validator;
        let world = validator.world?;
        let json = value.json().unwrap_or(&Json::Null);
        let name = json.str_at(&["resourceType"]).unwrap_or_else(|| value.type_name());
        let kind = validator.definitions.type_of(name)?;
        let Some(profile) = world.profiles.find(profile) else {
            let of = short(profile).and_then(|of| validator.definitions.type_of(of));
            if of.is_none() {
                world.missing.note(Need::Profile(profile.to_owned()));
                self.lack(|| format!("the profile {}", shown(profile)));
            }
            return of.map(|of| validator.definitions.derives(kind, of.name));
        };
        if validator.applied.len() >= world.limits.profiles {
            return None;
        }
        // Its surroundings are copied.
        let around = validator.contained.len() + validator.entries.len();
        validator.tally.count(1 + around as u64 / 16).ok()?;
        let mut nested = validator.within();
        let item = Item { value: value.json(), sibling: value.sibling(), kind };
        let scope = match kind.kind {
            Kind::Resource => Scope { resource: json, ..self.scope },
            _ => self.scope,
        };
        let place = Place::below(kind.name, self.depth);
        nested.apply(profile, item, &place, scope);
        validator.work.set(nested.work.get());
        validator.terms.work().set(nested.terms.work().get());
        validator.tally.count(nested.tally.steps()).ok()?;
        Some(!nested.issues.iter().any(crate::Issue::is_error))
    }
}
