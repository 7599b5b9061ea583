"""The page that spots words in a browser: `page` is what a browser gets, `site` puts it together."""
