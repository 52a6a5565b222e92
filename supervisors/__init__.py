"""Supervisors restart: OTP-grade supervision of any async function; knows no databases."""
