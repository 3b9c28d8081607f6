//! Tests of stacks: answers by version, their form in a file, and whether the halves fit.

use super::*;
use crate::version::Version;

fn stack(versions: &str) -> Stack {
    Stack::assumed(versions.parse().expect("versions"))
}

#[test]
fn all_lists_each_feature_at_its_position_with_its_own_name() {
    let mut names = Vec::new();
    for (position, feature) in Feature::ALL.into_iter().enumerate() {
        assert_eq!(feature as usize, position, "{feature:?}");
        names.push(feature.name());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Feature::ALL.len());
    assert!(!names.contains(&String::new()));
}

#[test]
fn assumed_answers_change_at_the_first_upstream_version() {
    for feature in Feature::ALL {
        let Some(since) = feature.since() else {
            assert!(!stack("libvirt=99.0,qemu=99.0").has(feature), "{feature:?}");
            continue;
        };
        let versions = |version: Version| match feature.half() {
            Half::Libvirt => Versions {
                libvirt: version,
                ..Versions::NEWEST_TESTED
            },
            Half::Qemu => Versions {
                qemu: version,
                ..Versions::NEWEST_TESTED
            },
        };
        let before = match since.minor {
            0 => Version::new(since.major - 1, 99, 0),
            minor => Version::new(since.major, minor - 1, 99),
        };
        assert!(Stack::assumed(versions(since)).has(feature), "{feature:?}");
        assert!(
            !Stack::assumed(versions(before)).has(feature),
            "{feature:?}"
        );
    }
}

#[test]
fn a_stack_is_read_as_it_was_written_and_missing_answers_are_assumed() {
    let mut vendor = stack("libvirt=11.9,qemu=10.1");
    vendor.libvirt.name = Some("11.9.0+nvidia4-1".parse().expect("a name"));
    let pasid = Value::Named(Spelling::Pasid);
    vendor
        .set(Feature::SmmuSsid, pasid, How::Grammar)
        .expect("a spelling");
    let text = serde_json::to_string(&vendor).expect("JSON");
    assert_eq!(serde_json::from_str::<Stack>(&text).expect("read"), vendor);
    let short = r#"{"libvirt": {"version": "12.8.0"}, "qemu": {"version": "11.1.0"}}"#;
    let read: Stack = serde_json::from_str(short).expect("read");
    assert_eq!(read, stack("libvirt=12.8,qemu=11.1"));
}

#[test]
fn a_stack_with_a_foreign_field_name_or_value_is_refused() {
    let with = |libvirt: &str, answers: &str| {
        let text = format!(
            r#"{{"libvirt": {libvirt}, "qemu": {{"version": "10.1.0"}}, "answers": {{{answers}}}}}"#
        );
        serde_json::from_str::<Stack>(&text)
    };
    let libvirt = r#"{"version": "11.9.0", "name": "11.9.0+nvidia4-1"}"#;
    let answer =
        |value: &str, how: &str| format!(r#""smmu_ssid": {{"value": {value}, "how": "{how}"}}"#);
    assert!(with(libvirt, &answer("\"pasid\"", "asked")).is_ok());
    for (value, how) in [
        ("true", "asked"),
        ("\"cmdqv\"", "asked"),
        ("\"bool\"", "asked"),
        ("3", "asked"),
        ("\"pasid\"", "guessed"),
    ] {
        assert!(with(libvirt, &answer(value, how)).is_err(), "{value} {how}");
    }
    assert!(
        with(
            libvirt,
            r#""unknown_feature": {"value": true, "how": "asked"}"#
        )
        .is_err()
    );
    let long = format!(r#"{{"version": "11.9.0", "name": "{}"}}"#, "a".repeat(65));
    for libvirt in [
        r#"{"version": "11.9.0", "name": ""}"#,
        r#"{"version": "11.9.0", "name": "a\n"}"#,
        r#"{"version": "x"}"#,
        r#"{"version": "11.9.0", "vendor": "n"}"#,
        &long,
    ] {
        assert!(with(libvirt, "").is_err(), "{libvirt}");
    }
}

#[test]
fn halves_fit_by_name_and_json_type() {
    let misfits = |stack: &Stack| -> Vec<&str> {
        let misfits = stack.misfits().into_iter();
        misfits.map(|misfit| misfit.attribute).collect()
    };
    let new = stack("libvirt=12.8,qemu=11.1");
    assert!(misfits(&new).is_empty());
    let mut vendor = new;
    for (feature, value) in [
        (Feature::SmmuAtsType, Value::Type(ValueType::Bool)),
        (Feature::SmmuRilType, Value::Type(ValueType::Bool)),
        (Feature::SmmuOasType, Value::Type(ValueType::Integer)),
        (Feature::SmmuSsid, Value::Named(Spelling::Pasid)),
        (Feature::SmmuCmdqv, Value::Named(Spelling::Tegra241Cmdqv)),
    ] {
        vendor.set(feature, value, How::Asked).expect("a value");
    }
    let all = ["ats", "ril", "oas", "ssidsize", "cmdqv"];
    assert_eq!(misfits(&vendor), all);
    assert!(misfits(&stack("libvirt=11.3,qemu=10.0")).is_empty());
}

#[test]
fn named_stacks_are_read_and_their_versions_agree_with_their_packages() {
    for name in Stack::names() {
        let stack = Stack::named(name).expect(name);
        for package in [stack.libvirt, stack.qemu] {
            let (text, version) = (package.to_string(), package.version);
            // Debian's package of 7.2.0 is '7.2+dfsg'.
            let number = format!("{}.{}", version.major, version.minor);
            assert!(text.contains(&number), "{name}: {text}");
        }
        let text = serde_json::to_vec(&stack).expect("JSON");
        assert_eq!(Stack::parse(&text), Ok(stack), "{name}");
    }
}

#[test]
fn named_stacks_of_distributions_answer_as_their_versions_do() {
    for name in Stack::names().filter(|name| !name.starts_with("nvidia")) {
        let stack = Stack::named(name).expect(name);
        let assumed = Stack::assumed(stack.versions());
        for feature in Feature::ALL {
            let (own, by_version) = (stack.value(feature), assumed.value(feature));
            assert_eq!(own, by_version, "{name}: {feature:?}");
        }
    }
}

#[test]
fn the_halves_of_nvidias_older_stack_fit_and_those_of_the_newer_one_do_not() {
    let misfits = |name| Stack::named(name).expect("a stack").misfits().len();
    assert_eq!((misfits("nvidia-10.1"), misfits("nvidia-11.0")), (0, 5));
}

#[test]
fn a_file_of_a_stack_is_bounded() {
    let large = vec![b' '; Stack::MAX_BYTES + 1];
    assert_eq!(Stack::parse(&large), Err(StackError::TooLarge(64)));
    assert!(matches!(Stack::parse(b"{}"), Err(StackError::Json(_))));
}
