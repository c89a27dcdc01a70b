"""Published weights into our models, by rules: file -> arrays -> our names and layouts."""
