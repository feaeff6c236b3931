//! A page of metrics in the text format of Prometheus.

/// One scrape. Names are given without the node's prefix.
#[derive(Debug, Clone)]
pub struct Metrics {
    text: String,
    prefix: String,
}

impl Metrics {
    pub(crate) fn new(text: String, prefix: &str) -> Self {
        Self {
            text,
            prefix: prefix.to_owned(),
        }
    }

    /// The page as it came.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of a metric's samples over all of its labels; `None` if it has none.
    #[must_use]
    pub fn sum(&self, name: &str) -> Option<f64> {
        let samples = self.text.lines().filter_map(|line| self.sample(line, name));
        samples.fold(None, |sum, sample| Some(sum.unwrap_or(0.0) + sample))
    }

    fn sample(&self, line: &str, name: &str) -> Option<f64> {
        let rest = line
            .strip_prefix(self.prefix.as_str())?
            .strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_and_added() {
        let text = "# TYPE p_a counter\np_a 3\np_ab 4\np_b{kind=\"x }\"} 1.5\np_b{kind=\"y\"} 2\n";
        let metrics = Metrics::new(text.to_owned(), "p_");
        assert_eq!(metrics.sum("a"), Some(3.0));
        assert_eq!(metrics.sum("ab"), Some(4.0));
        assert_eq!(metrics.sum("b"), Some(3.5));
        assert_eq!(metrics.sum("c"), None);
    }
}
