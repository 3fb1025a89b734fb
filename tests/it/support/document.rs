//! One of the documents of the contract, and whether a value is as it says. Knows as much of JSON Schema as they use.

use serde_json::{Map, Value};

use super::{items, text};

pub(crate) struct Document(pub(crate) Value);

impl Document {
    /// What a reference points to; anything else is itself.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref") else { return value };
        let pointer = text(reference).strip_prefix('#').expect("references stay within the document");
        self.resolve(self.0.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere")))
    }

    /// The value is as the schema says, and has no field that the document does not speak of.
    pub(crate) fn check(&self, schema: &Value, value: &Value, what: &str) {
        let checked = self.fits(schema, value).and_then(|()| self.is_known(&[schema], value));
        checked.unwrap_or_else(|why| panic!("{what}: {why}"));
    }

    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let keywords = schema.as_object().expect("a schema is an object");
        keywords.iter().try_for_each(|(keyword, wanted)| self.obeys(keyword, wanted, schema, value))
    }

    fn obeys(&self, keyword: &str, wanted: &Value, schema: &Value, value: &Value) -> Result<(), String> {
        let fits = |schema: &Value| self.fits(schema, value).is_ok();
        let number = || wanted.as_u64().expect("a bound is a whole number");
        let obeyed = match keyword {
            "$ref" => return self.fits(self.resolve(schema), value),
            "allOf" => return items(wanted).iter().try_for_each(|schema| self.fits(schema, value)),
            "oneOf" => items(wanted).iter().filter(|schema| fits(schema)).count() == 1,
            "anyOf" => items(wanted).iter().any(fits),
            "type" => is_of_type(wanted, value),
            "const" => value == wanted,
            "enum" => items(wanted).contains(value),
            "required" => items(wanted).iter().all(|name| value.get(text(name)).is_some()),
            "properties" => {
                let known = |(name, value)| wanted.get(name).map(|schema| (schema, value));
                return fields(value).filter_map(known).try_for_each(|(schema, value)| self.fits(schema, value));
            }
            "additionalProperties" if wanted == true => true,
            "additionalProperties" => return fields(value).try_for_each(|(_, value)| self.fits(wanted, value)),
            "propertyNames" => fields(value).all(|(name, _)| self.fits(wanted, &name.as_str().into()).is_ok()),
            "items" => return value.as_array().into_iter().flatten().try_for_each(|item| self.fits(wanted, item)),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= number()),
            "minimum" => value.as_u64().is_none_or(|value| value >= number()),
            "maximum" => value.as_u64().is_none_or(|value| value <= number()),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= number()),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= number()),
            "pattern" | "description" | "default" | "examples" => true,
            _ => panic!("the documents say {keyword}, which nobody checks"),
        };
        if obeyed { Ok(()) } else { Err(format!("{keyword} is {wanted}, but found {value}")) }
    }

    /// Whether some schema speaks of each field, at any depth.
    fn is_known(&self, schemas: &[&Value], value: &Value) -> Result<(), String> {
        let parts: Vec<&Value> = schemas.iter().flat_map(|schema| self.parts(schema)).collect();
        let of = |keyword: &str| parts.iter().filter_map(|part| part.get(keyword)).collect::<Vec<_>>();
        for item in value.as_array().into_iter().flatten() {
            self.is_known(&of("items"), item)?;
        }
        let others = of("additionalProperties");
        if others.iter().any(|schema| schema.is_boolean()) {
            return Ok(());
        }
        fields(value).try_for_each(|(name, value)| {
            let named = of("properties").into_iter().filter_map(|known| known.get(name));
            let schemas: Vec<&Value> = named.chain(others.iter().copied()).collect();
            if schemas.is_empty() {
                return Err(format!("the document does not know the field {name}: {value}"));
            }
            self.is_known(&schemas, value)
        })
    }

    /// The schema, and all it is put together from.
    fn parts<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolve(schema);
        let inner = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|keyword| schema.get(keyword)).flat_map(items);
        std::iter::once(schema).chain(inner.flat_map(|inner| self.parts(inner))).collect()
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    match text(wanted) {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the documents know no type {other}"),
    }
}
