//! Changes to JSON that leave it JSON, so that the fuzzer comes past the parser.

use lumbar_fhir::Json;

/// Values that are worth a try anywhere.
const VALUES: [&str; 16] = [
    "null",
    "[]",
    "{}",
    "[null]",
    "\"\"",
    "-1",
    "0",
    "1e400",
    "18446744073709551616",
    "true",
    "\"1\"",
    "\"*\"",
    "\"Extension\"",
    "\"http://hl7.org/fhir/StructureDefinition/Extension\"",
    "\"#\"",
    "{\"resourceType\":\"Bundle\"}",
];

/// Changes one value of the JSON in `data[..size]` and returns the new size; what is no JSON is
/// left as it is. `seed` alone decides what happens.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let Some(mut json) = data.get(..size).and_then(|data| Json::parse(data).ok()) else {
        return size;
    };
    let mut random = Random(u64::from(seed) << 1 | 1);
    let count = size_of(&json);
    for _ in 0..=random.below(3) {
        let other = nth(&mut json, &mut random.below(count)).cloned();
        let Some(value) = nth(&mut json, &mut random.below(count)) else { continue };
        change(value, other.unwrap_or(Json::Null), &mut random);
    }
    let text = json.to_string();
    match data.get_mut(..text.len()).filter(|_| text.len() <= max_size) {
        Some(place) => {
            place.copy_from_slice(text.as_bytes());
            text.len()
        }
        None => size,
    }
}

fn change(value: &mut Json, other: Json, random: &mut Random) {
    match (random.below(8), &mut *value) {
        (0 | 1, value) => *value = other,
        (2, value) => {
            let text = VALUES[random.below(VALUES.len())];
            *value = Json::parse(text.as_bytes()).unwrap_or(Json::Null);
        }
        (3 | 4, Json::Array(items)) => match items.len() {
            0 => items.push(other),
            len if random.below(2) == 0 => drop(items.remove(random.below(len))),
            len => items.insert(random.below(len), items[random.below(len)].clone()),
        },
        (3, Json::Object(object)) if !object.is_empty() => {
            let names: Vec<String> = object.iter().map(|(name, _)| name.to_owned()).collect();
            object.remove(&names[random.below(names.len())]);
        }
        (4 | 5, Json::Object(object)) => {
            let Json::Object(from) = other else { return };
            if let Some((name, value)) = from.iter().nth(random.below(from.len().max(1))) {
                object.set(name, value.clone());
            }
        }
        (_, Json::String(text)) => {
            let mut letters: Vec<char> = text.chars().collect();
            match random.below(letters.len() + 1) {
                at if random.below(2) == 0 => {
                    letters.insert(at, b" .#|:/%\0Z9-"[random.below(11)].into())
                }
                at => letters.truncate(at),
            }
            *value = Json::from(letters.into_iter().collect::<String>());
        }
        (6, value) => *value = Json::Array(vec![other]),
        (_, value) => *value = Json::Array(vec![std::mem::replace(value, Json::Null), other]),
    }
}

/// The `which`-th value of a tree, the root first.
fn nth<'a>(json: &'a mut Json, which: &mut usize) -> Option<&'a mut Json> {
    if *which == 0 {
        return Some(json);
    }
    *which -= 1;
    match json {
        Json::Array(items) => items.iter_mut().find_map(|item| nth(item, which)),
        Json::Object(object) => object.iter_mut().find_map(|(_, value)| nth(value, which)),
        _ => None,
    }
}

fn size_of(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(size_of).sum(),
        Json::Object(object) => object.iter().map(|(_, value)| size_of(value)).sum(),
        _ => 0,
    }
}

/// Xorshift: good enough to choose.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }
}
