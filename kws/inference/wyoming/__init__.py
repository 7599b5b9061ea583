"""Keyword spotting for Home Assistant and others that speak the Wyoming protocol; needs the package `wyoming`."""
