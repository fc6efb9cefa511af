// A notification service extension: shows a push once and says that it was shown.
//
// For the extension's target; the other two files belong to both targets. The push has to carry
// "mutable-content": 1, or the system does not call it.
// Absent here: downloading images, and decrypting.

import UserNotifications

final class NotificationService: UNNotificationServiceExtension {
    /// The group in the entitlements of the app and of this extension.
    private let appGroup = "group.com.example.app"

    private var show: ((UNNotificationContent) -> Void)?
    private var content: UNNotificationContent?

    override func didReceive(
        _ request: UNNotificationRequest,
        withContentHandler contentHandler: @escaping (UNNotificationContent) -> Void
    ) {
        show = contentHandler
        content = request.content
        guard let push = PostriderPush(userInfo: request.content.userInfo) else { return finish() }
        if PostriderGuard(appGroup: appGroup)?.claim(push.id) ?? true {
            PostriderReceipts(appGroup: appGroup)?.add(.displayed, of: push)
        } else {
            content = quiet(request.content)
        }
        guard let receipts = PostriderReceipts(appGroup: appGroup) else { return finish() }
        // The system may end the extension as soon as it has the content, so the receipt goes first.
        receipts.flush { [weak self] in
            DispatchQueue.main.async { [weak self] in self?.finish() }
        }
    }

    override func serviceExtensionTimeWillExpire() {
        finish()
    }

    /// A repeat. With the entitlement com.apple.developer.usernotifications.filtering it is not
    /// shown at all: return `UNNotificationContent()`. Without, it takes the first one's place
    /// (apns-collapse-id) and makes no sound.
    private func quiet(_ content: UNNotificationContent) -> UNNotificationContent {
        guard let quiet = content.mutableCopy() as? UNMutableNotificationContent else {
            return content
        }
        quiet.sound = nil
        if #available(iOS 15.0, *) {
            quiet.interruptionLevel = .passive
        }
        return quiet
    }

    private func finish() {
        if let content = content {
            show?(content)
        }
        show = nil
    }
}
