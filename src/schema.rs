//! JSON Schemas of the files, for editors: made from the types the files are read into, never written by hand.
//!
//! The types beside the formats derive theirs and say in attributes what their texts are checked to be. Here are the
//! words and forms behind that, from the same lists the checks use, and the few rules that tell an entry of the catalog
//! from one of a site. A schema says less than the program: what needs a look at another key or file it leaves alone.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::addrs::SpecialUse;
use crate::assertion::{FlowText, Sender, SenderText, WALLS, WallWord};
use crate::callout::{ACCOUNT, Advice, BlockedLevel, CATALOG_ONLY, Class, Confidence, OneOrMany, Origin};
use crate::catalog::{RawFeatures, RawPages, RawProviders, RawReleases, RawSources, RawSubject, Verdict};
use crate::day::Day;
use crate::lock::file::Document;
use crate::port::{Port, Protocol};
use crate::profile::{ALLOWABLE, FailureKey, RawProfile};
use crate::release::Release;
use crate::resolve::{Failure, RecordType};
use crate::settings::{
    Comments, Denied, Dialect, Hold, Hook, Ipv6, Losses, Mode, OpnsenseVersion, Pins, PodOrigin, ResolveAt, Side,
};
use crate::strict::{Choice, ChoiceWord, Level};
use crate::terms::Reaction;
use crate::text::{ID_MAX, Id};
use crate::workspace::RawWorkspace;
use crate::yaml::{Spanned, Word};

/// A kind of file that has a schema.
pub struct Kind {
    /// Its name on the command line, and that of its file in `schemas/`.
    pub name: &'static str,
    /// What such a file is.
    pub title: &'static str,
    schema: fn() -> Schema,
}

/// Every kind, in the order of the documentation.
pub const KINDS: &[Kind] = &[
    Kind { name: "callouts", title: "outgate catalog: callouts/*.yaml", schema: callouts },
    Kind { name: "releases", title: "outgate catalog: releases.yaml", schema: of::<RawReleases> },
    Kind { name: "sources", title: "outgate catalog: sources.yaml", schema: of::<RawSources> },
    Kind { name: "providers", title: "outgate catalog: providers.yaml", schema: of::<RawProviders> },
    Kind { name: "pages", title: "outgate catalog: pages.yaml", schema: of::<RawPages> },
    Kind { name: "features", title: "outgate catalog: features.yaml", schema: of::<RawFeatures> },
    Kind { name: "profile", title: "outgate profile: outgate.yaml", schema: profile },
    Kind { name: "sites", title: "outgate workspace: outgate-sites.yaml", schema: of::<RawWorkspace> },
    Kind { name: "lock", title: "outgate lock: outgate.lock", schema: of::<Document<'static>> },
];

impl Kind {
    /// The schema as a file has it: JSON Schema draft-07, with a final newline.
    #[must_use]
    pub fn print(&self) -> String {
        let mut schema = (self.schema)();
        schema.insert("title".to_owned(), self.title.into());
        format!("{:#}\n", schema.as_value())
    }
}

fn of<T: JsonSchema>() -> Schema {
    // Draft-07 is what editors know best, and whole is what they show best: there, nothing may stand beside a `$ref`.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).with_transform(tidy);
    settings.into_generator().into_root_schema_for::<T>()
}

/// Takes out what only Rust means, and offers of `null`: a key with nothing behind it is one somebody is still writing,
/// but for a mapping that needs no key, where it means every default.
fn tidy(schema: &mut Schema) {
    schema.remove("format");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    let empty = schema.get("properties").is_some() && schema.get("required").is_none();
    let types: Option<Vec<Value>> = schema.get("type").and_then(Value::as_array).cloned();
    if let Some(mut types) = types.filter(|_| !empty) {
        types.retain(|kind| kind != "null");
        let types = if types.len() == 1 { types.remove(0) } else { types.into() };
        schema.insert("type".to_owned(), types);
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
    }
    transform_subschemas(&mut tidy, schema);
}

/// Entries of the catalog give account of themselves, and lead somewhere.
fn callouts() -> Schema {
    let mut schema = of::<RawSubject>();
    if let Some(entry) = schema.pointer_mut("/properties/callouts/items").and_then(Value::as_object_mut) {
        require(entry, &ACCOUNT);
        entry.insert(
            "anyOf".to_owned(),
            json!([{"required": ["hosts"]}, {"required": ["providers"]}, {"required": ["slot"]}]),
        );
    }
    schema
}

/// A site's own callouts are always in use, and lead to hosts. A list of prefixes is in some place.
fn profile() -> Schema {
    let mut schema = of::<RawProfile>();
    if let Some(Value::Object(patterns)) = schema.pointer_mut("/properties/ranges/patternProperties") {
        for list in patterns.values_mut().filter_map(Value::as_object_mut) {
            let places = json!([{"required": ["file"]}, {"required": ["url"]}, {"required": ["provider"]}]);
            list.insert("anyOf".to_owned(), places);
        }
    }
    if let Some(entry) = schema.pointer_mut("/properties/shared/items").and_then(Value::as_object_mut) {
        // What is accepted is accepted by name.
        let others = json!({"properties": {"choice": {"enum": ["proxy", "drop"]}}});
        entry.insert("anyOf".to_owned(), json!([{"required": ["with"]}, others]));
    }
    if let Some(entry) = schema.pointer_mut("/properties/tests/items").and_then(Value::as_object_mut) {
        entry.insert("anyOf".to_owned(), json!([{"required": ["allow"]}, {"required": ["deny"]}]));
    }
    if let Some(entry) = schema.pointer_mut("/properties/extra/items").and_then(Value::as_object_mut) {
        if let Some(Value::Object(properties)) = entry.get_mut("properties") {
            properties.retain(|key, _| !CATALOG_ONLY.contains(&&**key));
        }
        entry.insert("anyOf".to_owned(), json!([{"required": ["hosts"]}, {"required": ["providers"]}]));
    }
    schema
}

/// Keys that must be there, and hold something where they hold a list.
fn require(entry: &mut Map<String, Value>, keys: &[&str]) {
    if let Some(Value::Array(required)) = entry.get_mut("required") {
        required.extend(keys.iter().map(|&key| key.into()));
    }
    for key in keys {
        let property = entry.get_mut("properties").and_then(|properties| properties.get_mut(key));
        if let Some(Value::Object(property)) = property.filter(|property| property["type"] == "array") {
            property.insert("minItems".to_owned(), 1.into());
        }
    }
}

/// The schema of a type that stands in a file as another does.
macro_rules! stands_as {
    ($inner:ty) => {
        fn inline_schema() -> bool {
            <$inner>::inline_schema()
        }

        fn schema_name() -> Cow<'static, str> {
            <$inner>::schema_name()
        }

        fn schema_id() -> Cow<'static, str> {
            <$inner>::schema_id()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            <$inner>::json_schema(generator)
        }
    };
}

/// It is a text, wherever its bytes are.
impl JsonSchema for Word<'_> {
    stands_as!(String);
}

/// A place says nothing about what stands there.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    stands_as!(T);
}

/// Checked types, each with the schema of the text it is read from.
macro_rules! texts {
    ($($name:ident: $schema:expr,)+) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

texts! {
    Class: told(Class::ALL.iter().map(|word| (word.as_str(), word.about()))),
    Level: told(Level::all().map(|(word, _, about)| (word, about))),
    ChoiceWord: told(Choice::NAMES.into_iter()),
    Origin: told(Origin::ALL.iter().map(|word| (word.as_str(), word.about()))),
    BlockedLevel: told(BlockedLevel::ALL.iter().map(|word| (word.as_str(), word.about()))),
    Advice: told(Advice::ALL.iter().map(|word| (word.as_str(), word.about()))),
    Confidence: told(Confidence::ALL.iter().map(|word| (word.as_str(), word.about()))),
    Verdict: told(Verdict::ALL.iter().map(|word| (word.as_str(), word.about()))),
    SpecialUse: words(ALLOWABLE.map(SpecialUse::as_str)),
    Hook: words(Hook::NAMES.map(|(name, _)| name)),
    Mode: words(Mode::NAMES.map(|(name, _)| name)),
    Denied: words(Denied::NAMES.map(|(name, _)| name)),
    Dialect: words(Dialect::NAMES.map(|(name, _)| name)),
    Side: words(Side::NAMES.map(|(name, _)| name)),
    Hold: words(Hold::NAMES.map(|(name, _)| name)),
    Comments: words(Comments::NAMES.map(|(name, _)| name)),
    Pins: words(Pins::NAMES.map(|(name, _)| name)),
    PodOrigin: words(PodOrigin::NAMES.map(|(name, _)| name)),
    ResolveAt: words(ResolveAt::NAMES.map(|(name, _)| name)),
    Ipv6: words(Ipv6::NAMES.map(|(name, _)| name)),
    Losses: words(Losses::NAMES.map(|(name, _)| name)),
    RecordType: words(RecordType::ALL.map(RecordType::as_str)),
    Failure: words(Failure::ALL.iter().map(|failure| failure.as_str())),
    FailureKey: words(Failure::ALL.iter().map(|failure| failure.key())),
    Reaction: reaction(),
    OpnsenseVersion: version(),
    Id: json_schema!({"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", "maxLength": ID_MAX}),
    Port: json_schema!({"type": "string", "pattern": format!("^{}/({})$", ports(), protocols())}),
    FlowText: json_schema!({"type": "string", "pattern": format!(":{}(/({}))?$", ports(), protocols())}),
    SenderText: sender(),
    WallWord: words(WALLS),
    Day: json_schema!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}),
    OneOrMany: json_schema!({"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1}),
    // `25.10` without quotes is a number to an editor; the reader takes the text as it stands.
    Release: json_schema!({"type": ["string", "number"]}),
}

fn words(words: impl IntoIterator<Item = &'static str>) -> Schema {
    json_schema!({"type": "string", "enum": words.into_iter().collect::<Vec<_>>()})
}

/// Words, each with what an editor shows beside it.
fn told(words: impl Iterator<Item = (&'static str, &'static str)>) -> Schema {
    let (words, about): (Vec<_>, Vec<_>) = words.unzip();
    json_schema!({"type": "string", "enum": words, "enumDescriptions": about})
}

/// It stands behind each failure, so it says by itself what it is about.
fn reaction() -> Schema {
    let mut schema = told(Reaction::NAMES.iter().map(|(word, reaction)| (*word, reaction.about())));
    schema
        .insert("description".to_owned(), "What becomes of the addresses a name had when its lookup fails so.".into());
    schema
}

fn ports() -> String {
    let number = "[1-9][0-9]{0,4}";
    format!("{number}(-{number})?")
}

fn protocols() -> String {
    Protocol::ALL.map(Protocol::as_str).join("|")
}

/// A kind of clients, offered by name, or an address.
fn sender() -> Schema {
    json_schema!({"type": "string", "anyOf": [{"enum": Sender::NAMES.map(|(name, _)| name)}, {"pattern": "[.:]"}]})
}

/// A series, offered by name, or a point release of one.
fn version() -> Schema {
    let names = OpnsenseVersion::NAMES.map(|(name, _)| name);
    let below = format!("^({})\\.", names.map(|name| name.replace('.', "\\.")).join("|"));
    json_schema!({"type": ["string", "number"], "anyOf": [{"enum": names}, {"pattern": below}]})
}
