use super::super::exposition_reader::parse;
use super::*;

#[test]
fn the_text_is_in_the_format_and_has_what_was_added() {
    let mut exposition = Exposition::default();
    exposition.add("a_bytes_total", Kind::Counter, "All.", &[("machine", "x")], Some(3.0));
    exposition.add("b_seconds", Kind::Gauge, "Some.", &[], Some(1.5));
    exposition.add("a_bytes_total", Kind::Counter, "All.", &[("machine", "a\"b\\c\nd")], Some(1e15));
    exposition.add("c_total", Kind::Counter, "None.", &[], None);
    let buckets = [(Some(0.000_001), 2.0), (Some(0.000_002), 0.0), (Some(4.194_304), 1.0), (None, 4.0)];
    exposition.add_histogram("d_seconds", "Times.", &[("disk", "0")], &buckets, 20.5);
    let text = exposition.text();
    let samples = parse(&text).unwrap();
    let labelled = |name: &str, labels: &[(&str, &str)], value: f64| {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        (format!("viridian_{name}"), labels, value)
    };
    let expected = [
        labelled("a_bytes_total", &[("machine", "x")], 3.0),
        labelled("a_bytes_total", &[("machine", "a\"b\\c\nd")], 1e15),
        labelled("b_seconds", &[], 1.5),
        labelled("d_seconds_bucket", &[("disk", "0"), ("le", "0.000001")], 2.0),
        labelled("d_seconds_bucket", &[("disk", "0"), ("le", "0.000002")], 2.0),
        labelled("d_seconds_bucket", &[("disk", "0"), ("le", "4.194304")], 3.0),
        labelled("d_seconds_bucket", &[("disk", "0"), ("le", "+Inf")], 7.0),
        labelled("d_seconds_sum", &[("disk", "0")], 20.5),
        labelled("d_seconds_count", &[("disk", "0")], 7.0),
    ];
    assert_eq!(samples, expected, "{text}");
    assert!(text.contains("viridian_a_bytes_total{machine=\"x\"} 3\n"), "{text}");
}

#[test]
fn the_reader_refuses_what_is_against_the_rules() {
    let good = "# HELP viridian_a_total A.\n# TYPE viridian_a_total counter\nviridian_a_total{x=\"1\"} 3\n";
    assert_eq!(parse(good).map(|samples| samples.len()), Ok(1));
    let histogram = "# HELP viridian_h H.\n# TYPE viridian_h histogram\nviridian_h_bucket{le=\"1\"} 2\n\
                     viridian_h_bucket{le=\"+Inf\"} 3\nviridian_h_sum 4\nviridian_h_count 3\n";
    assert_eq!(parse(histogram).map(|samples| samples.len()), Ok(4));
    for (text, from, to) in [
        (good, " 3\n", " 3"),
        (good, " 3\n", " x\n"),
        (good, " 3\n", " -3\n"),
        (good, "# HELP viridian_a_total A.\n", ""),
        (good, " A.\n", "\n"),
        (good, "# TYPE viridian_a_total counter\n", ""),
        (good, "counter", "gauge"),
        (good, "a_total", "a"),
        (good, "a_total", "a_ms_total"),
        (good, "{x=\"1\"} 3\n", "{x=\"1\"} 3\nviridian_a_total{x=\"1\"} 4\n"),
        (good, "x=\"1\"", "x=\"1\",x=\"2\""),
        (good, "x=", "1x="),
        (good, "\"1\"", "\"\\t\""),
        (good, "viridian_a_total{", "viridian_b_total{"),
        (histogram, "+Inf", "2"),
        (histogram, "le=\"1\"} 2", "le=\"1\"} 4"),
        (histogram, "viridian_h_sum 4\n", ""),
        (histogram, "count 3", "count 2"),
        (histogram, "viridian_h_sum 4\n", "viridian_h 4\n"),
    ] {
        let wrong = text.replace(from, to);
        assert!(parse(&wrong).is_err(), "{wrong}");
    }
    let twice = format!("{good}{}", good.replace("\"1\"", "\"2\""));
    assert!(parse(&twice).is_err(), "a metric has one place");
}
