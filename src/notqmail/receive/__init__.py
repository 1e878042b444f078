"""How mail comes in: SMTP, injection, and what stands behind qmail-queue."""
