"""How recordings come to be: downloaded, spoken by synthetic voices, generated."""
