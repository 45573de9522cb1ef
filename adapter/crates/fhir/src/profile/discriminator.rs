//! How the slices of an element are told apart: <https://hl7.org/fhir/R4/profiling.html#discriminator>.
//!
//! A discriminator names a path; what the slice's own elements say at that path becomes a test.
//! The path may lead into the profile of a type, of an extension or of a reference's target.

use std::borrow::Cow;

use super::compile::{Compiler, binding_of, choice};
use super::outline::Outline;
use super::rules::{Matcher, Step, Test};
use super::short;
use crate::Json;
use crate::definitions::Element;

/// Which element of a profile is meant.
const PROFILE_ELEMENT: &str =
    "http://hl7.org/fhir/StructureDefinition/elementdefinition-profile-element";

/// How deep values are looked for below the element that a discriminator names.
const MAX_DEPTH: usize = 4;

/// Most places that a path leads to.
const MAX_PLACES: usize = 200;

/// What a profile says at a path.
#[derive(Clone)]
enum Place<'p> {
    Node(&'p Outline, usize),
    /// The target of a reference: one of these profiles.
    Targets(Vec<&'p str>),
    /// A part of a fixed value or pattern.
    Value {
        json: &'p Json,
        is_fixed: bool,
    },
}

/// The test that one discriminator makes for one slice.
pub(super) fn matcher(compiler: Compiler<'_>, slice: usize, discriminator: &Json) -> Matcher {
    let path = discriminator.str_at(&["path"]).unwrap_or("$this");
    let kind = discriminator.str_at(&["type"]).unwrap_or_default();
    let Some(steps) = steps(path) else {
        return Matcher { steps: Vec::new(), test: Test::Undecided };
    };
    // An extension is told by its url, whether or not its definition is known.
    if let Some(url) = profiles_of(compiler.outline.element(slice)).next()
        && steps == [Step::Member("url".to_owned())]
        && of_types(compiler.outline.element(slice)).any(|code| code == "Extension")
    {
        let url = url.split('|').next().unwrap_or_default();
        return Matcher { steps, test: Test::Fixed(Json::from(url)) };
    }
    let mut places = vec![Place::Node(compiler.outline, slice)];
    for step in &steps {
        places = places.iter().flat_map(|place| follow(compiler, place, step)).collect();
        // Profiles that lead into each other make more places with each step.
        if places.len() > MAX_PLACES || !compiler.spend(places.len()) {
            return Matcher { steps, test: Test::Undecided };
        }
    }
    let mut tests: Vec<Test> =
        places.iter().filter_map(|place| test(compiler, kind, place)).collect();
    if tests.is_empty() && matches!(kind, "value" | "pattern") {
        // Without a value it can still be told by whether there is one.
        tests.extend(places.iter().find_map(|place| test(compiler, "exists", place)));
    }
    let test = match tests.len() {
        0 => Test::Undecided,
        1 => tests.pop().unwrap_or(Test::Undecided),
        _ => Test::Any(
            tests.into_iter().map(|test| vec![Matcher { steps: Vec::new(), test }]).collect(),
        ),
    };
    Matcher { steps, test }
}

/// A slice of a choice without a discriminator is told by its type, one of extensions by its url.
pub(super) fn implicit(compiler: Compiler<'_>, slice: usize, base: &Element) -> Vec<Matcher> {
    let (kind, path) = match base.is_choice {
        true => ("type", "$this"),
        false if matches!(base.name, "extension" | "modifierExtension") => ("value", "url"),
        false => return vec![Matcher { steps: Vec::new(), test: Test::Undecided }],
    };
    let discriminator = crate::json!({"type": (kind), "path": (path)});
    vec![matcher(compiler, slice, &discriminator)]
}

/// The steps of a discriminator's path; `None` if it is none that the standard allows.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.trim();
    while !rest.is_empty() {
        let end = rest.find(['.', '(']).unwrap_or(rest.len());
        let (name, mut after) = rest.split_at(end);
        if let Some(call) = after.strip_prefix('(') {
            let (argument, behind) = match call.strip_prefix(['\'', '"']) {
                Some(quoted) => {
                    let (text, behind) = quoted.split_once(['\'', '"'])?;
                    (text, behind.trim_start().strip_prefix(')')?)
                }
                None => call.split_once(')')?,
            };
            after = behind;
            match name {
                "resolve" => steps.push(Step::Resolve),
                "extension" => steps.push(Step::Extension(argument.to_owned())),
                "ofType" => steps.push(Step::OfType(argument.trim().to_owned())),
                _ => return None,
            }
        } else if name != "$this" {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if name.is_empty() || !is_name {
                return None;
            }
            steps.push(Step::Member(name.to_owned()));
        }
        rest = match after.strip_prefix('.') {
            Some(rest) if !rest.is_empty() => rest,
            _ if after.is_empty() => after,
            _ => return None,
        };
    }
    Some(steps)
}

/// Where a step leads to.
fn follow<'p>(compiler: Compiler<'p>, place: &Place<'p>, step: &Step) -> Vec<Place<'p>> {
    match (place, step) {
        (Place::Node(outline, node), Step::Member(name)) => {
            let within = || {
                let element = outline.element(*node);
                let (json, is_fixed) = match choice(element, "fixed") {
                    Some((_, fixed)) => (fixed, true),
                    None => (choice(element, "pattern")?.1, false),
                };
                let json = json.list(name).first()?;
                Some(Place::Value { json, is_fixed })
            };
            match within() {
                Some(value) => vec![value],
                None => child(compiler, outline, *node, name),
            }
        }
        (Place::Node(outline, node), Step::Extension(url)) => {
            let Some(extension) = outline.child(*node, "extension") else { return Vec::new() };
            let slices = outline.nodes.get(extension).map_or(&[][..], |node| &node.slices);
            compiler.spend(slices.len());
            let is_it = |slice: &&usize| {
                let by_profile =
                    profiles_of(outline.element(**slice)).any(|own| own == url.as_str());
                let of_url = outline.child(**slice, "url").map(|child| outline.element(child));
                let fixed = of_url.and_then(|element| choice(element, "fixed"));
                by_profile || fixed.and_then(|(_, value)| value.as_str()) == Some(url.as_str())
            };
            match slices.iter().find(is_it) {
                Some(slice) => vec![Place::Node(outline, *slice)],
                None => root_of(compiler, url).into_iter().collect(),
            }
        }
        (Place::Node(outline, node), Step::Resolve) => {
            let types = outline.element(*node).list("type");
            let targets = types.iter().flat_map(|of_type| of_type.list("targetProfile"));
            vec![Place::Targets(targets.filter_map(Json::as_str).collect())]
        }
        (Place::Node(..), Step::OfType(_)) => vec![place.clone()],
        (Place::Value { json, is_fixed }, Step::Member(name)) => {
            let part = json.list(name).first();
            part.map(|json| Place::Value { json, is_fixed: *is_fixed }).into_iter().collect()
        }
        (Place::Value { .. }, _) => Vec::new(),
        (Place::Targets(targets), Step::Member(name)) => {
            let roots = targets.iter().filter_map(|url| root_of(compiler, url));
            let child = |root| match root {
                Place::Node(outline, node) => child(compiler, outline, node, name),
                _ => Vec::new(),
            };
            roots.flat_map(child).collect()
        }
        (Place::Targets(_), _) => Vec::new(),
    }
}

/// An element's child: its own with the slices that it must have, and those of the profiles of its
/// type.
fn child<'p>(
    compiler: Compiler<'p>,
    outline: &'p Outline,
    node: usize,
    name: &str,
) -> Vec<Place<'p>> {
    let with_slices = |outline: &'p Outline, parent: usize| {
        compiler.spend(outline.nodes.get(parent).map_or(0, |node| node.children.len()));
        let own = outline.child(parent, name);
        let node = own.and_then(|own| outline.nodes.get(own));
        compiler.spend(node.map_or(0, |node| node.slices.len()));
        let slices = node.map_or(&[][..], |node| &node.slices).iter().copied();
        let needed = slices.filter(|slice| is_needed(outline.element(*slice)));
        let places = own.into_iter().chain(needed);
        places.map(|node| Place::Node(outline, node)).collect::<Vec<_>>()
    };
    let roots = profiles_of(outline.element(node)).filter_map(|url| root_of(compiler, &url));
    let of_profiles = roots.flat_map(|root| match root {
        Place::Node(outline, root) => with_slices(outline, root),
        _ => Vec::new(),
    });
    with_slices(outline, node).into_iter().chain(of_profiles).collect()
}

fn is_needed(element: &Json) -> bool {
    element.get("min").and_then(Json::as_i64).unwrap_or(0) > 0
}

fn of_types(element: &Json) -> impl Iterator<Item = &str> {
    element.list("type").iter().filter_map(|of_type| of_type.str_at(&["code"]))
}

/// The profiles of an element's types, each with `#` and the element of it that is meant, if it is
/// not the whole.
pub(super) fn profiles_of(element: &Json) -> impl Iterator<Item = Cow<'_, str>> {
    element.list("type").iter().flat_map(type_profiles)
}

/// The same for one type.
pub(super) fn type_profiles(of_type: &Json) -> impl Iterator<Item = Cow<'_, str>> {
    let urls = of_type.list("profile").iter().enumerate();
    urls.filter_map(|(index, url)| {
        let url = url.as_str()?;
        let beside = of_type.list("_profile").get(index);
        let mut extensions = beside.map_or(&[][..], |beside| beside.list("extension")).iter();
        let part = extensions.find(|e| e.str_at(&["url"]) == Some(PROFILE_ELEMENT));
        Some(match part.and_then(|part| part.str_at(&["valueString"])) {
            Some(part) => Cow::Owned(format!("{url}#{part}")),
            None => Cow::Borrowed(url),
        })
    })
}

fn root_of<'p>(compiler: Compiler<'p>, url: &str) -> Option<Place<'p>> {
    let (url, part) = match url.split_once('#') {
        Some((url, part)) => (url, Some(part)),
        None => (url, None),
    };
    let profile = compiler.profiles.find(url)?;
    let outline = profile.outline(compiler.profiles, compiler.definitions)?;
    if part.is_some() && !compiler.spend(outline.nodes.len()) {
        return None;
    }
    let is_part = |node: &usize| outline.element(*node).str_at(&["id"]) == part;
    let node = if part.is_some() { (0..outline.nodes.len()).find(is_part)? } else { 0 };
    Some(Place::Node(outline, node))
}

/// The test that a profile's words at a place make; `None` if they make none.
fn test(compiler: Compiler<'_>, kind: &str, place: &Place<'_>) -> Option<Test> {
    match (kind, place) {
        ("value" | "pattern", Place::Value { json, is_fixed }) => Some(match is_fixed {
            true => Test::Fixed(compiler.copy(json)),
            false => Test::Pattern(compiler.copy(json)),
        }),
        ("value" | "pattern", Place::Node(outline, node)) => {
            value(compiler, outline, *node).or_else(|| below(compiler, outline, *node))
        }
        ("value" | "pattern", Place::Targets(targets)) => {
            let groups = targets.iter().filter_map(|url| match root_of(compiler, url)? {
                Place::Node(outline, node) => match below(compiler, outline, node)? {
                    Test::Any(mut groups) => groups.pop(),
                    test => Some(vec![Matcher { steps: Vec::new(), test }]),
                },
                _ => None,
            });
            let groups: Vec<_> = groups.collect();
            (!groups.is_empty()).then_some(Test::Any(groups))
        }
        ("exists", Place::Node(outline, node)) => exists(outline, *node),
        ("type", Place::Node(outline, node)) => {
            let codes: Vec<String> = of_types(outline.element(*node)).map(str::to_owned).collect();
            (!codes.is_empty()).then_some(Test::Types(codes))
        }
        ("type", Place::Targets(targets)) => {
            let of_type = |url: &&str| match short(url) {
                Some(name) if compiler.definitions.type_of(name).is_some() => Some(name.to_owned()),
                _ => compiler.profiles.find(url)?.of_type().map(str::to_owned),
            };
            let types: Option<Vec<String>> = targets.iter().map(of_type).collect();
            types.filter(|types| !types.is_empty()).map(Test::Types)
        }
        ("profile", Place::Node(outline, node)) => {
            let profiles: Vec<String> =
                profiles_of(outline.element(*node)).map(Cow::into_owned).collect();
            (!profiles.is_empty()).then_some(Test::Profiles(profiles))
        }
        ("profile", Place::Targets(targets)) => {
            let profiles: Vec<String> = targets.iter().map(|url| (*url).to_owned()).collect();
            (!profiles.is_empty()).then_some(Test::Profiles(profiles))
        }
        _ => None,
    }
}

/// A fixed value, a pattern or a required value set.
fn value(compiler: Compiler<'_>, outline: &Outline, node: usize) -> Option<Test> {
    let element = outline.element(node);
    if let Some((_, fixed)) = choice(element, "fixed") {
        return Some(Test::Fixed(compiler.copy(fixed)));
    }
    if let Some((_, pattern)) = choice(element, "pattern") {
        return Some(Test::Pattern(compiler.copy(pattern)));
    }
    let binding = binding_of(element).filter(|binding| binding.strength == "required")?;
    // A slice that only repeats the value set of its element is not told by it; values below are.
    let has_values = !below_of(compiler, outline, node, &mut Vec::new(), 0).is_empty();
    (!has_values).then_some(Test::Binding(binding))
}

/// The values that the element's own elements, or those of the profile of its type, state.
fn below(compiler: Compiler<'_>, outline: &Outline, node: usize) -> Option<Test> {
    let mut found = below_of(compiler, outline, node, &mut Vec::new(), 0);
    if found.is_empty() {
        let roots = profiles_of(outline.element(node)).filter_map(|url| root_of(compiler, &url));
        for root in roots {
            if let Place::Node(outline, root) = root {
                match value(compiler, outline, root) {
                    Some(test) => return Some(test),
                    None => found = below_of(compiler, outline, root, &mut Vec::new(), 0),
                }
            }
        }
    }
    (!found.is_empty()).then(|| Test::Any(vec![found]))
}

fn below_of(
    compiler: Compiler<'_>,
    outline: &Outline,
    node: usize,
    steps: &mut Vec<Step>,
    depth: usize,
) -> Vec<Matcher> {
    let mut found = Vec::new();
    let children = outline.nodes.get(node).map_or(&[][..], |node| &node.children);
    if depth >= MAX_DEPTH || !compiler.spend(children.len()) {
        return found;
    }
    for child in children.iter().copied() {
        let element = outline.element(child);
        if !is_needed(element) {
            continue;
        }
        steps.push(Step::Member(super::outline::last(outline.path(child)).to_owned()));
        let fixed = choice(element, "fixed").map(|(_, value)| Test::Fixed(compiler.copy(value)));
        let pattern =
            || choice(element, "pattern").map(|(_, value)| Test::Pattern(compiler.copy(value)));
        match fixed.or_else(pattern) {
            Some(test) => found.push(Matcher { steps: steps.clone(), test }),
            None => found.extend(below_of(compiler, outline, child, steps, depth + 1)),
        }
        steps.pop();
    }
    found
}

fn exists(outline: &Outline, node: usize) -> Option<Test> {
    let element = outline.element(node);
    if element.str_at(&["max"]) == Some("0") {
        return Some(Test::Exists(false));
    }
    is_needed(element).then_some(Test::Exists(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        let member = |name: &str| Step::Member(name.to_owned());
        for (path, expected) in [
            ("$this", Some(vec![])),
            ("url", Some(vec![member("url")])),
            ("coding.code", Some(vec![member("coding"), member("code")])),
            ("$this.resolve()", Some(vec![Step::Resolve])),
            ("entity.resolve().code", Some(vec![member("entity"), Step::Resolve, member("code")])),
            (
                "extension('http://a.b/c').value",
                Some(vec![Step::Extension("http://a.b/c".into()), member("value")]),
            ),
            (
                "value.ofType(Quantity)",
                Some(vec![member("value"), Step::OfType("Quantity".into())]),
            ),
            ("a..b", None),
            ("a.where(x)", None),
            ("a.", None),
        ] {
            assert_eq!(steps(path), expected, "{path}");
        }
    }
}
